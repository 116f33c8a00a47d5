"""Routes of the HTTP API and of the page."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from finescale.errors import SettingsError, printable_name
from finescale.serve.catalogue import Catalogue
from finescale.serve.engine_room import EngineRoom
from finescale.serve.errors import ERROR_SCHEMA, STATUS_OF_FAILURE, ApiError
from finescale.serve.guard import Guard
from finescale.serve.jobs import VIEWS, Job, JobStore
from finescale.serve.metrics import Metrics
from finescale.serve.settings import JobSettings, ServeSettings
from finescale.settings import parse_settings

_PAGE = Path(__file__).parent / "page"
_PAGE_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/compare.js": ("compare.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_MEDIA_TYPES = {
    **{"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "tif": "image/tiff"},
    **{"tiff": "image/tiff", "bmp": "image/bmp", "avif": "image/avif", "gif": "image/gif", "heic": "image/heic"},
}
_LONGEST_NAME = 150  # characters
_BEAT = 15.0  # seconds between two signs of life of a stream of events
_CALM = 0.1  # seconds between two events of a stream
_CHUNK = 2**20  # bytes


class Service:
    """Everything behind the routes.

    Args:
        settings: Of the server.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.catalogue = Catalogue(settings.networks)
        self.metrics = Metrics()
        self.store = JobStore(settings.folder / "jobs", max_age=settings.max_age * 3600, max_stored=settings.max_stored)
        self.engine = EngineRoom(settings, self.store, self.catalogue, self.metrics)

    def find(self, id: str) -> Job:
        """Return the job of an id.

        Raises:
            ApiError: There is none, or no longer.
        """
        job = self.store.get(id)
        if job is None:
            raise ApiError(404, "unknown_job", "there is no such job", "It may have expired; send the picture again.")
        return job

    async def receive(self, request: Request, *, is_direct: bool) -> Job:
        """Receive a picture and put it into the queue.

        Raises:
            ApiError: The queue is full, or the request is not right.
        """
        self.engine.reserve()
        try:
            return await self._receive(request, is_direct=is_direct)
        finally:
            self.engine.release()

    async def _receive(self, request: Request, *, is_direct: bool) -> Job:
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise ApiError(
                415, "not_a_form", "the body is not multipart/form-data", "Send the picture as the form's file 'image'."
            )
        async with request.form(max_files=1, max_fields=20, max_part_size=4096) as form:
            picture, values = None, {}
            for name, value in form.multi_items():
                if isinstance(value, UploadFile) and name == "image":
                    picture = value
                elif isinstance(value, UploadFile) or name == "image" or name in values:
                    raise ApiError(
                        400,
                        "bad_request",
                        f"the form's field {name[:50]!r} is a file, or is there twice",
                        "Send one file called 'image', and each setting once.",
                    )
                else:
                    values[name] = value
            if picture is None or not picture.size:
                raise ApiError(
                    400, "no_picture", "the form has no picture", "Send it as the form's file 'image', with its bytes."
                )
            wanted = parse_settings(JobSettings, values, source="the form")
            offer = self.catalogue.choose(wanted.network, wanted.scale)
            id, folder = self.store.new_folder()
            try:
                with (folder / "input").open("xb") as file:
                    await run_in_threadpool(shutil.copyfileobj, picture.file, file)
                output = wanted.output_settings().model_dump(exclude_none=True, exclude={"name", "overwrite"})
                job = Job(
                    id=id,
                    name=_shown_name(picture.filename),
                    network=offer.id,
                    scale=offer.scale,
                    settings=output,
                    ensemble=wanted.ensemble,
                    size_bytes=picture.size,
                    created=time.time(),
                    is_direct=is_direct,
                )
                self.engine.submit(job)
            except BaseException as error:
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, OSError):
                    raise ApiError(
                        503, "no_room", "the server cannot store the picture", "Try again later.", retry_after=60
                    ) from error
                raise
            return job


def _shown_name(stated: str | None) -> str:
    """Return the last part of a client's file name, printable and of bounded length."""
    last = (stated or "").replace("\\", "/").rpartition("/")[2].lstrip(".")
    shown = printable_name(last).replace("\\", "_").replace('"', "_")
    if len(shown) > _LONGEST_NAME:
        path = Path(shown)
        shown = path.stem[: _LONGEST_NAME - 10] + path.suffix[:10]
    return shown or "picture"


def create_app(service: Service) -> ASGIApp:
    """Build the application; its lifespan starts the worker.

    Args:
        service: What it serves.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.engine.start()
        expiry = asyncio.create_task(_expire(service.store))
        yield
        expiry.cancel()
        await service.engine.stop()

    app = FastAPI(
        title="finescale",
        version=version("finescale"),
        summary="Upscaling of pictures.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        responses={"default": {"description": "An error.", "content": {"application/json": {"schema": ERROR_SCHEMA}}}},
        lifespan=lifespan,
    )
    _add_errors(app)
    _add_page(app)
    _add_status(app, service)
    _add_jobs(app, service)
    _add_results(app, service)
    settings = service.settings
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization"],
            expose_headers=["Finescale-Notes", "Retry-After", "Content-Disposition"],
        )
    return Guard(app, settings, service.metrics.count_response)


async def _expire(store: JobStore) -> None:
    while True:
        store.expire()
        await asyncio.sleep(60)


def _add_errors(app: FastAPI) -> None:
    def answer(make: Callable[[Any], ApiError]) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def handler(_request: Request, error: Exception) -> Response:
            return make(error).response()

        return handler

    def of_http(error: HTTPException) -> ApiError:
        code = {404: "not_found", 405: "wrong_method"}.get(error.status_code, "bad_request")
        return ApiError(error.status_code, code, str(error.detail), "GET /v1/openapi.json describes all requests.")

    app.add_exception_handler(ApiError, answer(lambda error: error))
    app.add_exception_handler(HTTPException, answer(of_http))
    app.add_exception_handler(
        SettingsError,
        answer(lambda e: ApiError(400, "wrong_settings", str(e), "GET /v1/openapi.json describes the settings.")),
    )
    app.add_exception_handler(
        ClientDisconnect, answer(lambda _: ApiError(400, "gone", "the client went away", "Send it again."))
    )
    app.add_exception_handler(
        Exception, answer(lambda _: ApiError(500, "internal", "the server has a defect", "Its log has the details."))
    )


def _add_page(app: FastAPI) -> None:
    for address, (name, media_type) in _PAGE_FILES.items():
        content = (_PAGE / name).read_bytes()

        def page(content: bytes = content, media_type: str = media_type) -> Response:
            return Response(content, media_type=media_type)

        app.add_route(address, lambda _request, page=page: page(), include_in_schema=False)


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether the server runs.")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether the server takes pictures.")
    async def readyz() -> JSONResponse:
        is_ready = service.engine.num_ready > 0 and not service.engine.is_stopping
        if is_ready:
            return JSONResponse({"ready": True})
        error = ApiError(503, "not_ready", "no worker is ready, or the server is being stopped", "Ask again later.")
        return JSONResponse({"ready": False, **error.body}, status_code=503, headers={"Retry-After": "2"})

    @app.get("/metrics", summary="Numbers for Prometheus.", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        gauges = {
            "jobs_waiting": service.engine.num_waiting,
            "jobs_stored": len(list(service.store)),
            "stored_bytes": service.store.stored_bytes(),
            "worker_ready": service.engine.num_ready,
        }
        return PlainTextResponse(service.metrics.text(gauges), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", summary="Networks to choose from, and limits.")
    async def models() -> dict[str, Any]:
        settings = service.settings
        return {
            **service.catalogue.as_json(service.engine.rates),
            "limits": {
                "bytes": settings.max_upload,
                "pixels": settings.max_pixels,
                "queued": settings.max_queued,
                "hours": settings.max_age,
            },
        }


def _form() -> dict[str, Any]:
    """Describe the form of a request for the OpenAPI file."""
    schema = JobSettings.model_json_schema()
    schema["properties"]["image"] = {"type": "string", "format": "binary", "description": "The picture's file."}
    schema["required"] = ["image"]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _add_jobs(app: FastAPI, service: Service) -> None:
    store, engine = service.store, service.engine

    @app.post("/v1/upscale", openapi_extra=_form(), summary="Upscale a picture and answer with the result.")
    async def upscale(request: Request) -> Response:
        job = await service.receive(request, is_direct=True)
        gone, end = asyncio.create_task(_disconnect(request)), asyncio.create_task(store.end(job))
        try:
            await asyncio.wait((gone, end), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not job.is_final:
                engine.cancel(job)
        if job.status != "done":
            await end  # nothing works on it any more
            store.delete(job)
            error = job.error or {"code": "cancelled", "message": "cancelled", "hint": ""}
            status = STATUS_OF_FAILURE[error["code"]]
            raise ApiError(status, **error, retry_after=5 if status == 503 else None)
        return FileResponse(
            store.result(job),
            media_type=_MEDIA_TYPES[job.format],
            filename=job.result_name,
            headers={"Finescale-Notes": quote(json.dumps(job.notes))},
            background=BackgroundTask(store.delete, job),
        )

    @app.post("/v1/jobs", status_code=202, openapi_extra=_form(), summary="Send a picture to be upscaled.")
    async def submit(request: Request) -> JSONResponse:
        job = await service.receive(request, is_direct=False)
        return JSONResponse(job.as_json(), status_code=202, headers={"Location": f"/v1/jobs/{job.id}"})

    @app.get("/v1/jobs", summary="All jobs, the oldest first.")
    async def jobs() -> dict[str, Any]:
        return {"jobs": [job.as_json() for job in store if not job.is_direct]}

    @app.get("/v1/jobs/{id}", summary="One job.")
    async def job(id: str) -> dict[str, Any]:
        return service.find(id).as_json()

    @app.delete("/v1/jobs/{id}", summary="Cancel a job that is not finished; delete one that is.")
    async def delete(id: str) -> dict[str, Any]:
        job = service.find(id)
        if job.is_final:
            store.delete(job)
        else:
            engine.cancel(job)
        return job.as_json()

    @app.post("/v1/jobs/{id}/retry", status_code=202, summary="Repeat a job that failed or was cancelled.")
    async def retry(id: str) -> JSONResponse:
        job = service.find(id)
        if job.status not in ("failed", "cancelled"):
            raise ApiError(
                409, "not_failed", f"the job is {job.status}", "Only failed and cancelled jobs are repeated."
            )
        engine.reserve()
        try:
            job.status, job.error, job.tiles, job.finished = "queued", None, None, None
            engine.submit(job)
        finally:
            engine.release()
        return JSONResponse(job.as_json(), status_code=202)

    @app.get("/v1/events", summary="Changes of all jobs, as server-sent events.")
    async def all_events(request: Request) -> StreamingResponse:
        def current() -> dict[str, Any]:
            return {job.id: job.as_json() for job in store if not job.is_direct}

        async def events() -> AsyncIterator[str]:
            known: dict[str, Any] = {}
            yield _event("jobs", {"jobs": list(current().values())})
            known = current()
            while not engine.is_stopping and not await request.is_disconnected():
                await store.change(_BEAT)
                await asyncio.sleep(_CALM)
                now = current()
                for id in known.keys() - now.keys():
                    yield _event("deleted", {"id": id})
                for id, facts in now.items():
                    if known.get(id) != facts:
                        yield _event("job", facts)
                if now == known:
                    yield ": alive\n\n"
                known = now

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/v1/jobs/{id}/events", summary="Changes of one job, as server-sent events, until it is finished.")
    async def job_events(id: str, request: Request) -> StreamingResponse:
        job = service.find(id)

        async def events() -> AsyncIterator[str]:
            last = None
            while not await request.is_disconnected():
                facts = job.as_json()
                yield _event("job", facts) if facts != last else ": alive\n\n"
                last = facts
                if job.is_final or engine.is_stopping:
                    return
                await store.change(_BEAT)
                await asyncio.sleep(_CALM)

        return StreamingResponse(events(), media_type="text/event-stream")


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


async def _disconnect(request: Request) -> None:
    """Wait until the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_results(app: FastAPI, service: Service) -> None:
    store = service.store

    def finished(id: str) -> Job:
        job = service.find(id)
        if job.status != "done":
            raise ApiError(409, "not_done", f"the job is {job.status}", "GET its /events, and ask when it is done.")
        return job

    @app.get("/v1/jobs/{id}/result", summary="The result's file.", response_class=FileResponse)
    async def result(id: str) -> FileResponse:
        job = finished(id)
        return FileResponse(store.result(job), media_type=_MEDIA_TYPES[job.format], filename=job.result_name)

    @app.get("/v1/jobs/{id}/view/{which}", summary="The 'input', 'result' or 'thumbnail' as browsers can show it.")
    async def view(id: str, which: str) -> FileResponse:
        job = finished(id)
        if which not in VIEWS:
            hint = "Ask for 'input', 'result' or 'thumbnail'."
            raise ApiError(404, "not_found", f"there is no view {which[:20]!r}", hint)
        if not job.is_viewable:
            raise ApiError(404, "not_viewable", "this picture is too large for browsers", "GET its /result.")
        copy = store.view(job, which)
        if copy.is_file():
            return FileResponse(copy, media_type="image/png")
        if which != "input":
            return FileResponse(store.result(job), media_type=_MEDIA_TYPES[job.format])
        return FileResponse(store.input(job), media_type=_MEDIA_TYPES[(job.input_format or "png").lower()])

    @app.get("/v1/results.zip", summary="The results of all finished jobs, or of 'ids', in one file.")
    async def results(ids: str | None = None) -> StreamingResponse:
        if ids is None:
            chosen = [job for job in store if job.status == "done" and not job.is_direct]
        else:
            chosen = [finished(id) for id in dict.fromkeys(ids.split(","))]
        files = [(_distinct(job, chosen), store.result(job)) for job in chosen]
        return StreamingResponse(
            _zipped(files),
            media_type="application/zip",
            headers={"Content-Disposition": 'attachment; filename="finescale.zip"'},
        )


def _distinct(job: Job, among: list[Job]) -> str:
    """Return the name of a result in an archive, numbered where an earlier one has it too."""
    names = [one.result_name for one in among]
    number = names[: among.index(job)].count(job.result_name)
    path = Path(job.result_name)
    return job.result_name if number == 0 else f"{path.stem} ({number + 1}){path.suffix}"


class _Outlet:
    """File to write to, whose bytes are taken out piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: bytes are at hand at once."""

    def take(self) -> bytes:
        data, self._pieces = b"".join(self._pieces), []
        return data


def _zipped(files: list[tuple[str, Path]]) -> Iterator[bytes]:
    """Pack files, which are compressed already, into an archive that is never held in memory or on the disk."""
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for name, path in files:
            if not path.is_file():  # expired since the request
                continue
            facts = zipfile.ZipInfo(name, date_time=time.localtime(path.stat().st_mtime)[:6])
            with path.open("rb") as source, archive.open(facts, "w", force_zip64=True) as target:
                while piece := source.read(_CHUNK):
                    target.write(piece)
                    yield outlet.take()
    yield outlet.take()
