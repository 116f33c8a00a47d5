"""Pictures in a row, each read when it is asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import overload

from torch import Tensor


class PictureSequence(Sequence[Tensor]):
    """Pictures (3, H, W), uint8; a kind of them fills in `read`, and counts them."""

    @abstractmethod
    def read(self, index: int) -> Tensor:
        """The picture at a place, counted from the start or, below 0, from the end."""

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Tensor, ...]: ...
    def __getitem__(self, index: int | slice) -> Tensor | tuple[Tensor, ...]:
        if isinstance(index, slice):
            return tuple(self.read(number) for number in range(*index.indices(len(self))))
        return self.read(index)
