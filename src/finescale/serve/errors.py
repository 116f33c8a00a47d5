"""Answers that are errors: one shape for all of them."""

from __future__ import annotations

from starlette.responses import JSONResponse

STATUS_OF_FAILURE = {
    "not_a_picture": 415,
    "too_many_pixels": 413,
    "cannot_upscale": 422,
    "too_slow": 422,
    "cancelled": 409,
    "worker_died": 503,
    "stopped": 503,
}
"""HTTP status for each code of a job that failed."""

_TEXT = {"type": "string"}
ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "hint"],
            "properties": {"code": _TEXT, "message": _TEXT, "hint": _TEXT},
        }
    },
}
"""JSON schema of every error."""


class ApiError(Exception):
    """An error to answer a request with.

    Args:
        status: HTTP status.
        code: One word for programs, such as "queue_full".
        message: One sentence for people: what was wrong, with its value.
        hint: What to do about it.
        retry_after: Seconds until a repetition may succeed.
    """

    def __init__(self, status: int, code: str, message: str, hint: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"code": code, "message": message, "hint": hint}}
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    def response(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse(self.body, status_code=self.status, headers=self.headers)
