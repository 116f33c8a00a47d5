"""Base of sequences whose pictures are read when they are accessed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import overload

from torch import Tensor


class PictureSequence(Sequence[Tensor]):
    """Sequence of pictures (3, H, W), uint8; a subclass implements `read` and ``__len__``."""

    @abstractmethod
    def read(self, index: int) -> Tensor:
        """Read the picture at an index; one below 0 counts from the end."""

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Tensor, ...]: ...
    def __getitem__(self, index: int | slice) -> Tensor | tuple[Tensor, ...]:
        if isinstance(index, slice):
            return tuple(self.read(number) for number in range(*index.indices(len(self))))
        return self.read(index)
