"""Download of published weights: each file is fetched once into the cache folder and checked at every use.

What authors publish on the Hugging Face hub is downloaded by the hub's own client, the extra "hub"; what has been
downloaded is used without it. Where they offer only a link, the user downloads the file. A file that the user has put
in place is found by its published name, and goes first. This module does not know what a file holds.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path
from types import ModuleType

import platformdirs

from finescale.errors import DownloadError, MissingExtraError
from finescale.networks import Published
from finescale.system.files import sha256, whole_file
from finescale.zoo import restriction

HUB_FILE = "model.safetensors"
"""The weights in a repository of the hub."""

PRETRAINED = Path("experiments") / "pretrained_models"
"""Where published training code expects weights, below the working folder."""

logger = logging.getLogger("finescale")


def cache_folder() -> Path:
    """The folder of fetched weights: FINESCALE_CACHE, else finescale in the system's folder of caches.

    Earlier versions used ~/.cache on every system; a folder that is there is kept in use.
    """
    if stated := os.environ.get("FINESCALE_CACHE"):
        return Path(stated).expanduser()
    folder = platformdirs.user_cache_path("finescale", appauthor=False)
    earlier = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "finescale"
    return earlier if earlier.is_dir() and not folder.is_dir() else folder


def is_repository(name: str) -> bool:
    """Whether a text has the form "owner/name" of a repository on the hub."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, flags=re.ASCII) is not None


def fetch(published: Published, *, offline: bool = False) -> Path:
    """The weight file of a published network; a warning says if its licence forbids commercial use.

    Args:
        published: What its authors publish.
        offline: Touch no network; the environment variable HF_HUB_OFFLINE=1 has the same effect.

    Raises:
        DownloadError: The file can neither be found nor fetched, or has changed since it was fetched.
        MissingExtraError: It must be fetched from the hub, and the hub's client is not installed.
    """
    title = f"{published.name} x{published.scale}"
    if published.file is None:
        raise DownloadError(f"{title}: its authors publish no weights; give the path of a weight file")
    if restricted := restriction(published.licence):
        logger.warning("%s: its weights are %s", title, restricted)
    if (placed := _placed_by_hand(published)) is not None:
        return placed
    if published.hub is not None:
        return fetch_repository(published.hub, offline=offline)
    raise DownloadError(
        f"{title}: its authors offer the weights at {published.page}; download {published.file} and put it into "
        f"{cache_folder()} or {PRETRAINED}"
    )


def at_hand(published: Published) -> Path | None:
    """The weight file of a published network, where it was fetched or put in place before; not checked.

    Args:
        published: What its authors publish.
    """
    if published.file is None:
        return None
    if (placed := _placed_by_hand(published)) is not None or published.hub is None:
        return placed
    file = cache_folder() / "hub" / published.hub / HUB_FILE
    return file if file.is_file() and file.with_name(f"{HUB_FILE}.sha256").is_file() else None


def fetch_repository(repository: str, *, offline: bool = False) -> Path:
    """The weight file of a repository on the hub, downloaded at first use and taken from the cache afterwards.

    Args:
        repository: "owner/name"; its weights are ``model.safetensors``.
        offline: Touch no network; the environment variable HF_HUB_OFFLINE=1 has the same effect.

    Raises:
        ValueError: The name has another form.
        DownloadError: The file is neither in the cache nor can it be fetched, or it has changed since it was fetched.
        MissingExtraError: It must be fetched from the hub, and the hub's client is not installed.
    """
    if not is_repository(repository):
        raise ValueError(f"a repository of the hub is called owner/name, got {repository!r}")
    file = cache_folder() / "hub" / repository / HUB_FILE
    record = file.with_name(f"{HUB_FILE}.sha256")
    if file.is_file() and record.is_file():  # the record is written last: with it, the file is whole
        _check(file, record)
        return file
    if offline or _hub_is_offline():
        raise DownloadError(
            f"{repository}: its weights are not in {file.parent}, and the hub is not asked while offline; "
            "fetch them once without --offline and without HF_HUB_OFFLINE"
        )
    _download(repository, file, record)
    return file


def _hub_is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")  # as the hub's client reads it


def _check(file: Path, record: Path) -> None:
    """Refuse a file that is not the one that was fetched."""
    try:
        noted, found = record.read_text(encoding="ascii", errors="replace").partition(" ")[0], sha256(file)
    except OSError as error:
        raise DownloadError(f"{error.filename}: cannot be read ({error.strerror}); make it readable") from None
    if found != noted:
        raise DownloadError(
            f"{file}: changed since it was fetched (SHA-256 {found[:12]}..., was {noted[:12]}...); "
            "delete it, and it is fetched again"
        )


def _download(repository: str, file: Path, record: Path) -> None:
    """Fetch a repository's weights into ``file``, and record their hash in the format of sha256sum."""
    hub = _client(repository)
    address = f"{hub.constants.ENDPOINT}/{repository}"
    try:
        stated = hub.get_hf_file_metadata(hub.hf_hub_url(repository, HUB_FILE))
        file.parent.mkdir(parents=True, exist_ok=True)
        _check_room(file.parent, stated.size)
        size = "of unknown size" if stated.size is None else _mib(stated.size)
        logger.info("fetching %s of %s (%s) into %s", HUB_FILE, address, size, file.parent)
        hub.hf_hub_download(repository, HUB_FILE, local_dir=file.parent)
        found = sha256(file)
        # Small files are stated by git's own hash; a weight file is large and stated by its SHA-256.
        if re.fullmatch(r"[0-9a-f]{64}", stated.etag or "") and found != stated.etag:
            file.unlink()
            raise DownloadError(
                f"{address}: {HUB_FILE} arrived damaged (SHA-256 {found[:12]}..., the hub states "
                f"{stated.etag[:12]}...); fetch it again"
            )
        with whole_file(record) as note:
            note.write(f"{found}  {HUB_FILE}\n".encode())
    # The base of the client's own errors is that of its HTTP library, which is another one in each major version;
    # its other transport, for large files, raises RuntimeError.
    except (OSError, RuntimeError, hub.errors.HfHubHTTPError.__bases__[0]) as error:
        raise DownloadError(_reason(error, address, file, hub.errors)) from None


def _client(repository: str) -> ModuleType:
    """The hub's client, which is optional."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError:
        raise MissingExtraError(
            f"{repository}: fetching from the hub needs its client; install it with pip install 'finescale[hub]'"
        ) from None
    return huggingface_hub


def _check_room(folder: Path, size: int | None) -> None:
    free = shutil.disk_usage(folder).free
    if size is not None and size > free:
        raise DownloadError(
            f"{folder}: too little room for {_mib(size)}, {_mib(free)} are free; "
            "make room, or set FINESCALE_CACHE to a folder on another disk"
        )


def _reason(error: Exception, address: str, file: Path, kinds: ModuleType) -> str:
    """Why a download failed, in one sentence with its remedy."""
    kind = type(error).__name__
    lost = f"{address}: cannot be reached, or the connection broke ({kind}); check the network and fetch again"
    if isinstance(error, kinds.LocalEntryNotFoundError):  # the client's name for getting no answer
        return lost
    if isinstance(error, kinds.GatedRepoError):
        return f"{address}: its owner gives access on request; ask for it there, then log in with 'hf auth login'"
    if isinstance(error, kinds.RepositoryNotFoundError):
        return f"{address}: no such repository, or a private one; check the name, or log in with 'hf auth login'"
    if isinstance(error, kinds.EntryNotFoundError):
        return f"{address}: there is no {HUB_FILE} in it; download what it has, and give the path of the weight file"
    if isinstance(error, kinds.HfHubHTTPError):
        return f"{address}: the hub answered with status {error.response.status_code}; try again later"
    if isinstance(error, OSError) and error.errno is not None:  # of the disk: those of a connection have no number
        return f"{file}: cannot be written ({error.strerror}); make room, or set FINESCALE_CACHE to another folder"
    return lost


def _placed_by_hand(published: Published) -> Path | None:
    """The file that the user has downloaded under one of its published names."""
    for folder in (cache_folder(), PRETRAINED):
        if folder.is_dir():
            found = [path for path in sorted(folder.iterdir()) if published.is_file(path.name) and path.is_file()]
            if found:
                return found[0]
    return None


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
