"""Pictures in an LMDB, in the layout of BasicSR.

Such a folder, with a name ending in ``.lmdb``, holds two files. ``data.mdb`` maps each picture's name without suffix to
the bytes of a PNG file. ``meta_info.txt`` has a line for each: name, (height,width,channels) and PNG's compression
level, as in ``bird.png (288,288,3) 1``.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor

from finescale.data.folders import may_be_replaced
from finescale.data.hr_images import as_text, read_hr_image
from finescale.data.sequence import PictureSequence
from finescale.errors import DataError, MissingExtraError, printable_name
from finescale.images import decode_image, encode_png
from finescale.resize import round_half_up
from finescale.system.files import whole_file, whole_folder
from finescale.system.jobs import FileReport, find_namesakes, map_files, refuse_namesake

_DATA, _META, _LOCK = "data.mdb", "meta_info.txt", "lock.mdb"
_COMPRESSION = 1
_LONGEST_KEY = 511  # bytes, by LMDB's own limit
_LINE = re.compile(r"(?P<name>.+) \((?P<height>\d+),(?P<width>\d+),\d+\) \d+")

FIRST_MAP = 2**26
"""Bytes that a new LMDB can hold; doubled whenever it is full."""


def write_lmdb(
    paths: Sequence[Path], folder: Path, *, drop_ending: str = "", overwrite: bool = False, workers: int = 1
) -> Generator[FileReport, None, None]:
    """Write pictures into an LMDB; every value is read back before the folder gets its name.

    Args:
        paths: The pictures.
        folder: The LMDB; its name ends in ``.lmdb``.
        drop_ending: Ending to drop from every name, such as ``x4`` of low-resolution pictures, so that the two pictures
            of a pair have the same name in their two LMDBs.
        overwrite: Replace an LMDB that exists.
        workers: How many pictures are read and encoded at once.

    Returns:
        One report per picture, in order; the LMDB holds those that can be read.

    Raises:
        ValueError: The folder's name does not end in ``.lmdb``, or ``workers`` is not positive.
        MissingExtraError: The package lmdb is not installed.
        DataError: The folder holds other files, or an LMDB that is damaged or of other pictures and ``overwrite`` is
            not set. While reports are taken: no picture can be read, or the LMDB cannot be written.
    """
    _import_lmdb()
    if folder.suffix != ".lmdb":
        raise ValueError(f"the name of an LMDB must end in .lmdb, got {printable_name(folder)}")
    namesakes = find_namesakes(paths)

    def encode(path: Path) -> _Entry:
        refuse_namesake(path, namesakes)
        key = _key_of(path, drop_ending)
        image = read_hr_image(path)
        return _Entry(
            path,
            key,
            shape=(*image.size, len(image.levels)),
            value=encode_png(image.levels, compression=_COMPRESSION),
            notes=image.notes,
        )

    if may_be_replaced(folder, ours=(_DATA, _META, _LOCK)) and not overwrite:
        return _kept(paths, folder, drop_ending)
    return _write(folder, map_files(encode, paths, workers=workers))


class LmdbImages(PictureSequence):
    """Pictures of an LMDB, (3, H, W) and uint8, each decoded when it is accessed; gray becomes RGB.

    Args:
        folder: An LMDB that `write_lmdb` or BasicSR made.

    Raises:
        MissingExtraError: The package lmdb is not installed.
        DataError: The folder is not such an LMDB, or is damaged; also when a damaged picture is accessed.
    """

    names: tuple[str, ...]
    """The pictures' names, as listed in ``meta_info.txt``."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each, as listed there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        listed = _read_list(folder)
        self.names, self.sizes = tuple(listed), tuple(listed.values())
        self._environment = _open(self._folder)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Tensor:
        """Decode the picture at an index."""
        name = self.names[index]
        image = decode_image(self.encoded(index), name=f"{self._folder}: {name}")
        if image.size != self.sizes[index]:
            raise DataError(
                f"{printable_name(self._folder)}: {name} has {as_text(image.size)} pixels, but {_META} lists "
                f"{as_text(self.sizes[index])}; rebuild the LMDB"
            )
        return round_half_up(image.pixels * 255).expand(3, -1, -1).contiguous()

    def encoded(self, index: int) -> bytes:
        """Return a picture as it is stored, the bytes of a PNG file."""
        key = _key_of_name(self.names[index])
        with self._environment.begin() as transaction:
            value: bytes | None = transaction.get(key.encode())
        if value is None:
            raise DataError(
                f"{printable_name(self._folder)}: {_META} lists {key!r}, which {_DATA} lacks; rebuild the LMDB"
            )
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return LmdbImages, (self._folder,)


@dataclass(frozen=True)
class _Entry:
    path: Path
    key: str
    shape: tuple[int, int, int]  # (H, W, C)
    value: bytes
    notes: tuple[str, ...]


def _write(folder: Path, results: Generator[_Entry | FileReport, None, None]) -> Generator[FileReport, None, None]:
    lmdb = _import_lmdb()
    lines: list[str] = []
    checksums: list[int] = []
    try:
        with closing(results), whole_folder(folder) as temporary:
            # Nobody else knows this folder: no locks, and nothing needs to be on the disk before the end.
            with closing(lmdb.open(str(temporary), map_size=FIRST_MAP, lock=False, sync=False)) as environment:
                for result in results:
                    if isinstance(result, FileReport):
                        yield result
                        continue
                    _put(environment, result.key.encode(), result.value, full=lmdb.MapFullError)
                    lines.append("{}.png ({},{},{}) {}\n".format(result.key, *result.shape, _COMPRESSION))
                    checksums.append(zlib.crc32(result.value))
                    yield FileReport(result.path, "done", (folder,), notes=result.notes)
                environment.sync(True)
            if not lines:
                raise DataError(f"{printable_name(folder)}: no picture can be read; no LMDB is written")
            with whole_file(temporary / _META) as file:
                file.write("".join(lines).encode())
            _verify(temporary, checksums)
    except OSError as error:
        raise DataError(f"{printable_name(folder)}: cannot be written ({error.strerror})") from None
    except lmdb.Error as error:  # on a full disk too, it is "Input/output error"
        reason = f"{printable_name(str(error))}; check the disk and the space on it"
        raise DataError(f"{printable_name(folder)}: cannot be written ({reason})") from None


def _put(environment: Any, key: bytes, value: bytes, *, full: type[Exception]) -> None:
    """Store a value; the map grows when it is full."""
    while True:
        try:
            with environment.begin(write=True) as transaction:
                transaction.put(key, value)
            return
        except full:
            environment.set_mapsize(2 * environment.info()["map_size"])


def _verify(folder: Path, checksums: Sequence[int]) -> None:
    written = LmdbImages(folder)
    for index, checksum in enumerate(checksums):
        if zlib.crc32(written.encoded(index)) != checksum:
            raise DataError(f"{written.names[index]} was not stored as it was written; check the disk")


def _kept(paths: Sequence[Path], folder: Path, drop_ending: str) -> Generator[FileReport, None, None]:
    """Report on an LMDB that exists already."""
    held = {_key_of_name(name) for name in _read_list(folder)}
    keys = {path: path.stem.removesuffix(drop_ending) for path in paths}
    others = sorted(held.difference(keys.values()))
    if others:
        raise DataError(
            f"{printable_name(folder)} is an LMDB of other pictures ({printable_name(others[0])}, ...); replace it "
            "with --overwrite, or name another folder"
        )
    return (_report_kept(path, folder, is_held=key in held) for path, key in keys.items())


def _report_kept(path: Path, folder: Path, *, is_held: bool) -> FileReport:
    if is_held:
        return FileReport(path, "kept", (folder,), "the LMDB holds it already")
    reason = f"{printable_name(path)}: the LMDB exists and lacks it; --overwrite rebuilds the LMDB"
    return FileReport(path, "failed", reason=reason)


def _key_of(path: Path, drop_ending: str) -> str:
    """Return the key of a picture.

    Raises:
        DataError: Its name does not have the ending, or makes a key that some readers cannot find.
    """
    name = printable_name(path)
    if not path.stem.endswith(drop_ending):
        raise DataError(f"{name}: the name does not end in {drop_ending!r}, the ending to drop")
    key = path.stem.removesuffix(drop_ending)
    if not key.isascii() or not key.isprintable() or "." in key or not 1 <= len(key) <= _LONGEST_KEY:
        raise DataError(f"{name}: {key!r} cannot be a key; rename it to printable ASCII letters without a dot")
    return key


def _key_of_name(name: str) -> str:
    return name.partition(".")[0]  # as BasicSR reads the list


def _read_list(folder: Path) -> dict[str, tuple[int, int]]:
    """Read the pictures that an LMDB lists, with height and width."""
    meta = folder / _META
    try:
        lines = meta.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(
            f"{printable_name(folder)} is not an LMDB of pictures, it has no {_META}; make one with "
            "'finescale prepare lmdb'"
        ) from None
    except OSError as error:
        raise DataError(f"{printable_name(meta)}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{printable_name(meta)}: not a text file; rebuild the LMDB") from None
    listed = {}
    for number, line in enumerate(lines, start=1):
        found = _LINE.fullmatch(line)
        if not found:
            raise DataError(f"{printable_name(meta)}: line {number} is not 'name.png (height,width,channels) 1'")
        listed[found["name"]] = int(found["height"]), int(found["width"])
    if not listed:
        raise DataError(f"{printable_name(meta)} lists no picture; rebuild the LMDB")
    return listed


def _open(folder: Path) -> Any:
    """Open the environment of an LMDB; LMDB allows one per file in each process."""
    lmdb = _import_lmdb()
    name = printable_name(folder)
    try:
        facts = (folder / _DATA).stat()
        environment = _ENVIRONMENTS.get((facts.st_dev, facts.st_ino))
        if environment is None:
            environment = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
            _ENVIRONMENTS[facts.st_dev, facts.st_ino] = environment
    except (OSError, lmdb.Error) as error:
        raise DataError(f"{name}: cannot be opened as an LMDB ({error})") from None
    num_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if facts.st_size < num_bytes:  # what is missing would end the process when it is read
        raise DataError(f"{name}: {_DATA} is truncated, it has {facts.st_size} of {num_bytes} bytes; rebuild the LMDB")
    return environment


_ENVIRONMENTS: WeakValueDictionary[tuple[int, int], Any] = WeakValueDictionary()


def _import_lmdb() -> ModuleType:
    try:
        import lmdb
    except ImportError:
        raise MissingExtraError("LMDBs need the package lmdb; install it with: pip install 'finescale[lmdb]'") from None
    return lmdb
