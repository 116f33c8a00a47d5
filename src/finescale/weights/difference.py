"""How the keys and shapes of a weight file differ from those of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from finescale.weightfiles.messages import quoted


@dataclass(frozen=True, kw_only=True)
class StateDifference:
    """The keys in which a file's tensors and a network disagree; true where there are any."""

    missing: list[str]
    unexpected: list[str]
    misshaped: list[str]
    """ "'key' of shape (2, 3) instead of (3, 2)"."""

    @property
    def count(self) -> int:
        """Number of keys."""
        return len(self.missing) + len(self.unexpected) + len(self.misshaped)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        kinds = [
            (len(self.missing), "missing", [quoted(key) for key in self.missing[:1]]),
            (len(self.unexpected), "unexpected", [quoted(key) for key in self.unexpected[:1]]),
            (len(self.misshaped), "misshaped", self.misshaped[:1]),
        ]
        parts = [
            f"{count} {'key is' if count == 1 else 'keys are'} {kind} (first: {first[0]})"
            for count, kind, first in kinds
            if count
        ]
        return ", ".join(parts)


def difference(tensors: Mapping[str, Tensor], network: nn.Module) -> StateDifference:
    """Compare a file's tensors with the state dict of a network."""
    expected = network.state_dict()
    return StateDifference(
        # Counters of batches may be missing, as many converted files have lost them: they change no answer.
        missing=[key for key, tensor in expected.items() if key not in tensors and tensor.is_floating_point()],
        unexpected=[key for key in tensors if key not in expected],
        misshaped=[
            f"{quoted(key)} of shape {tuple(tensors[key].shape)} instead of {tuple(tensor.shape)}"
            for key, tensor in expected.items()
            if key in tensors and tensors[key].shape != tensor.shape
        ],
    )
