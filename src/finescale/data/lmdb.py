"""Pictures in an LMDB, as training code in the manner of BasicSR keeps them.

Such a folder, named ``....lmdb``, holds two files. ``data.mdb`` maps each picture's name without ending to the bytes of
a PNG file. ``meta_info.txt`` has a line for each: name, (height,width,channels) and how hard PNG was to compress, as in
``bird.png (288,288,3) 1``.
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
"""Bytes that a new LMDB can hold; doubled whenever they are full."""


def write_lmdb(
    paths: Sequence[Path], folder: Path, *, drop_ending: str = "", overwrite: bool = False, workers: int = 1
) -> Generator[FileReport, None, None]:
    """Write pictures into an LMDB, one after the other; every value is read back before the folder takes its name.

    Args:
        paths: The pictures.
        folder: The LMDB; its name ends in ``.lmdb``.
        drop_ending: What is taken off the end of every name, as ``x4`` off those of low-resolution pictures: the two
            pictures of a pair have one name in their two LMDBs.
        overwrite: Replace an LMDB that exists.
        workers: How many pictures are read and encoded at once.

    Returns:
        One report per picture, in order; the LMDB is made of those that can be read.

    Raises:
        ValueError: The folder's name ends otherwise, or ``workers`` is not positive.
        MissingExtraError: The package lmdb is not installed.
        DataError: The folder holds other files, or a damaged LMDB or one of other pictures that is not to be replaced.
            While reports are taken: no picture can be read, or the LMDB cannot be written.
    """
    _import_lmdb()
    if folder.suffix != ".lmdb":
        raise ValueError(f"the name of an LMDB ends in .lmdb, got {printable_name(folder)}")
    namesakes = find_namesakes(paths)

    def encode(path: Path) -> _Entry:
        refuse_namesake(path, namesakes)
        key = _key_of(path, drop_ending)
        original = read_hr_image(path)
        return _Entry(
            path,
            key,
            shape=(*original.size, len(original.levels)),
            value=encode_png(original.levels, compression=_COMPRESSION),
            notes=original.notes,
        )

    if may_be_replaced(folder, ours=(_DATA, _META, _LOCK)) and not overwrite:
        return _kept(paths, folder, drop_ending)
    return _write(folder, map_files(encode, paths, workers=workers))


class LmdbImages(PictureSequence):
    """The pictures of an LMDB, (3, H, W) and uint8, each decoded when it is asked for; gray becomes RGB.

    Args:
        folder: An LMDB that `write_lmdb` or BasicSR made.

    Raises:
        MissingExtraError: The package lmdb is not installed.
        DataError: The folder is no such LMDB, or it is damaged; also when a damaged picture is asked for.
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
        """The picture at a place, decoded."""
        name = self.names[index]
        image = decode_image(self.encoded(index), name=f"{self._folder}: {name}")
        if image.size != self.sizes[index]:
            raise DataError(
                f"{printable_name(self._folder)}: {name} has {as_text(image.size)} pixels, where {_META} says "
                f"{as_text(self.sizes[index])}; make it anew"
            )
        return round_half_up(image.pixels * 255).expand(3, -1, -1).contiguous()

    def encoded(self, index: int) -> bytes:
        """A picture as it is stored, the bytes of a file."""
        key = _key_of_name(self.names[index])
        with self._environment.begin() as transaction:
            value: bytes | None = transaction.get(key.encode())
        if value is None:
            raise DataError(f"{printable_name(self._folder)}: {_META} lists {key!r}, which {_DATA} lacks; make it anew")
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
                raise DataError(f"{printable_name(folder)}: no picture can be read; no LMDB is made")
            with whole_file(temporary / _META) as file:
                file.write("".join(lines).encode())
            _verify(temporary, checksums)
    except (OSError, lmdb.Error) as error:
        raise DataError(f"{printable_name(folder)}: cannot be written ({error})") from None


def _put(environment: Any, key: bytes, value: bytes, *, full: type[Exception]) -> None:
    """Store a value; the map grows where it is too small."""
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
    """Reports on an LMDB that exists already."""
    held = {_key_of_name(name) for name in _read_list(folder)}
    keys = {path: path.stem.removesuffix(drop_ending) for path in paths}
    others = sorted(held.difference(keys.values()))
    if others:
        raise DataError(
            f"{printable_name(folder)} is an LMDB of other pictures ({printable_name(others[0])}, ...); replace it by "
            "--overwrite, or name another folder"
        )
    return (_report_kept(path, folder, is_held=key in held) for path, key in keys.items())


def _report_kept(path: Path, folder: Path, *, is_held: bool) -> FileReport:
    if is_held:
        return FileReport(path, "kept", (folder,), "the LMDB holds it already")
    reason = f"{printable_name(path)}: the LMDB exists and lacks it; --overwrite makes the LMDB anew"
    return FileReport(path, "failed", reason=reason)


def _key_of(path: Path, drop_ending: str) -> str:
    """The key of a picture.

    Raises:
        DataError: Its name has not the ending, or makes a key that not every reader finds.
    """
    name = printable_name(path)
    if not path.stem.endswith(drop_ending):
        raise DataError(f"{name}: the name does not end in {drop_ending!r}, which was to be dropped")
    key = path.stem.removesuffix(drop_ending)
    if not key.isascii() or not key.isprintable() or "." in key or not 1 <= len(key) <= _LONGEST_KEY:
        raise DataError(f"{name}: {key!r} cannot be a key; rename it to printable ASCII letters without a dot")
    return key


def _key_of_name(name: str) -> str:
    return name.partition(".")[0]  # as BasicSR reads the list


def _read_list(folder: Path) -> dict[str, tuple[int, int]]:
    """The pictures that an LMDB lists, with height and width."""
    meta = folder / _META
    try:
        lines = meta.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(
            f"{printable_name(folder)} is no LMDB of pictures, it has no {_META}; 'finescale prepare lmdb' makes one"
        ) from None
    except OSError as error:
        raise DataError(f"{printable_name(meta)}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{printable_name(meta)}: not a text file; make the LMDB anew") from None
    listed = {}
    for number, line in enumerate(lines, start=1):
        found = _LINE.fullmatch(line)
        if not found:
            raise DataError(f"{printable_name(meta)}: line {number} is not 'name.png (height,width,channels) 1'")
        listed[found["name"]] = int(found["height"]), int(found["width"])
    if not listed:
        raise DataError(f"{printable_name(meta)} lists no picture; make the LMDB anew")
    return listed


def _open(folder: Path) -> Any:
    """The environment of an LMDB; LMDB allows one per file in each process."""
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
        raise DataError(f"{name}: {_DATA} is truncated, it has {facts.st_size} of {num_bytes} bytes; make it anew")
    return environment


_ENVIRONMENTS: WeakValueDictionary[tuple[int, int], Any] = WeakValueDictionary()


def _import_lmdb() -> ModuleType:
    try:
        import lmdb
    except ImportError:
        raise MissingExtraError("LMDBs need the package lmdb; install it by: pip install 'finescale[lmdb]'") from None
    return lmdb
