"""Folder of the results of an evaluation: finished results, from which it resumes, and upscaled pictures."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finescale.data.folders import check_name
from finescale.errors import DataError, printable_name
from finescale.images import read_image, write_image
from finescale.system.files import TEMPORARY_PREFIX, whole_file

_FINISHED = "finished.jsonl"
_FINISHED_IN_SHARD = "finished.*.jsonl"
_VALUES = {"psnr", "ssim", "metrics", "picture"}

Key = Mapping[str, Any]
"""Everything that a result depends on, as plain values."""


class ResultsFolder:
    """A folder for the results of evaluations.

    ``finished.jsonl`` has a line for each result, with everything that it depends on; a result is reused as long as
    nothing of that changes.

    Args:
        path: The folder; `begin` creates it.
        overwrite: Redo existing results.
        keep_pictures: Keep upscaled pictures.
        suffix: Follows the names of upscaled pictures.
        visualized: Model whose pictures go to ``visualization/SET/``, where BasicSR writes them, in place of
            ``images/MODEL/SET/``; None for none.
        shard: Text for the name of the log of one of several processes that write at the same time, such as "2-of-8";
            finished results of all of them are reused.

    Raises:
        DataError: The folder contains other files, see `check_results_folder`.
    """

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        keep_pictures: bool = True,
        suffix: str,
        visualized: str | None = None,
        shard: str = "",
    ) -> None:
        self.path = path
        self.keep_pictures = keep_pictures
        self.suffix = suffix
        self._visualized = visualized
        self._log = path / (_FINISHED_IN_SHARD.replace("*", shard) if shard else _FINISHED)
        check_results_folder(path)
        logs = [] if overwrite else [path / _FINISHED, *sorted(path.glob(_FINISHED_IN_SHARD))]
        self._finished = {key: values for log in logs for key, values in self._read(log).items()}
        self._has_begun = False

    def begin(self) -> None:
        """Create the folder and its log, before any other file, so that a run that is killed can resume.

        The log is rewritten without overwritten results and half lines of a crash.

        Raises:
            DataError: The folder cannot be written to.
        """
        if self._has_begun:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with whole_file(self._log) as file:
                file.writelines(_line(*entry) for entry in self._finished.items())
        except OSError as error:
            raise self._unwritable(error) from None
        self._has_begun = True

    def find(self, key: Key) -> dict[str, Any] | None:
        """Return the values of a finished result; None where it, or the picture to be kept with it, is missing."""
        values = self._finished.get(_text(key))
        if values is None or not self.keep_pictures:
            return values
        stamp = self._stamp(key)
        return values if stamp is not None and stamp == values["picture"] else None

    def add(self, key: Key, values: Mapping[str, Any], sr: Tensor) -> None:
        """Store a result and, where pictures are kept, its picture (3, H, W) in [0, 1].

        Raises:
            ValueError: A name in the key leads out of the folder.
            DataError: The folder cannot be written to.
            ImageWriteError: The picture cannot be written.
        """
        self.begin()
        try:
            if self.keep_pictures:
                path = self.picture(key["model"], key["set"], key["image"])
                path.parent.mkdir(parents=True, exist_ok=True)
                write_image(path, sr)
            values = {**values, "picture": self._stamp(key) if self.keep_pictures else None}
            self._finished[_text(key)] = dict(values)
            with self._log.open("ab") as log:
                log.write(_line(_text(key), values))
        except OSError as error:
            raise self._unwritable(error) from None

    def picture(self, model: str, set_name: str, image: str) -> Path:
        """Return the path of an upscaled picture.

        Raises:
            ValueError: A name is not that of a file or a folder, and would lead out of the results.
        """
        file = f"{image}_{self.suffix}.png"
        if model == self._visualized:
            return self._inside("visualization", set_name, file)
        return self._inside("images", model, set_name, file)

    def comparison(self, name: str) -> Path:
        """Return the path of a comparison picture.

        Raises:
            ValueError: The name is not that of a file, and would lead out of the results.
        """
        return self._inside("comparison", name)

    def read_picture(self, model: str, set_name: str, image: str) -> Tensor | None:
        """Read an upscaled picture (3, H, W) in [0, 1]; None where it was not kept."""
        path = self.picture(model, set_name, image)
        return read_image(path).pixels.expand(3, -1, -1) if self.keep_pictures and path.is_file() else None

    def write(self, name: str, text: str) -> None:
        """Write a text file; it appears when it is complete.

        Raises:
            DataError: The file cannot be written.
        """
        self.begin()
        try:
            with whole_file(self.path / name) as file:
                file.write(text.encode("utf-8", errors="backslashreplace"))
        except OSError as error:
            raise DataError(f"{printable_name(self.path / name)}: cannot be written ({error.strerror})") from None

    def _inside(self, *names: str) -> Path:
        for name in names:
            check_name(name, what="a name in the results")
        return self.path.joinpath(*names)

    def _stamp(self, key: Key) -> list[int] | None:
        path = self.picture(key["model"], key["set"], key["image"])
        return [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else None

    def _read(self, log: Path) -> dict[str, dict[str, Any]]:
        finished = {}
        try:
            lines = log.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise DataError(f"{printable_name(log)}: cannot be read ({error.strerror})") from None
        for line in lines:
            if not line.endswith(b"\n"):
                break  # half a line: the process was killed
            try:
                entry = json.loads(line)
                key, values = entry["key"], entry["values"]
                is_result = isinstance(values, dict) and values.keys() == _VALUES
            except (ValueError, KeyError, TypeError, RecursionError):
                is_result = False
            if not is_result:
                raise DataError(f"{printable_name(log)}: damaged; delete it or give --overwrite")
            finished[_text(key)] = values
        return finished

    def _unwritable(self, error: OSError) -> DataError:
        return DataError(f"{printable_name(self.path)}: cannot be written to ({error.strerror})")


def check_results_folder(path: Path) -> None:
    """Refuse a folder that results cannot be added to; it need not exist.

    Raises:
        DataError: It contains other files than those of an evaluation, is a file, or cannot be entered.
    """
    name = printable_name(path)
    try:
        if path.exists() and not path.is_dir():
            raise DataError(f"{name} is a file; name a folder for the results")
        names = [entry.name for entry in path.iterdir()] if path.is_dir() else []
    except OSError as error:
        raise DataError(f"{name}: cannot be used ({error.strerror}); name another folder for the results") from None
    is_of_results = _FINISHED in names or fnmatch.filter(names, _FINISHED_IN_SHARD)
    if not is_of_results and not all(name.startswith(TEMPORARY_PREFIX) for name in names):
        raise DataError(f"{name} contains files that are not results; name another folder")


def rounded(sr: Tensor) -> Tensor:
    """Round an image in [0, 1] to 8-bit values, as it is stored."""
    return (sr.clamp(0, 1) * 255).round().to(torch.float32) / 255


def _text(key: Key) -> str:
    return json.dumps(key, sort_keys=True)


def _line(key: str, values: Mapping[str, Any]) -> bytes:
    return f'{{"key": {key}, "values": {json.dumps(values)}}}\n'.encode()
