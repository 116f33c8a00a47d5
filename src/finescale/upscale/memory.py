"""Memory of a device, memory that a network takes per pixel, and the largest tile that follows from them."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from finescale.errors import DeviceError
from finescale.system.memory import free_host_memory, is_out_of_memory

MIN_TILE = 32  # below this, a tile is mostly overlap
MAX_TILE = 256  # HiT-SRF on one CPU core takes 48 us per lr pixel at 256 a side, 87 at 384, 94 at 448, 117 at 640
MAX_WHOLE = 448  # up to here, one tile costs about as much as several that overlap, and has no seams
TILE_STEP = 64  # the largest window of the known networks, which pad to its multiples
PROBE_SIDES = (128, 64, 32)
OPENVINO_MEMORY = 3.5  # times what PyTorch takes per pixel; 1.6 (default) to 3.5 (sliding proxy network) were measured
HEADROOM = 1.5  # for what the count misses: workspaces inside operators, gaps between allocations


def largest_tile(size: tuple[int, int], *, budget: int, bytes_per_pixel: float) -> int:
    """Return the side of the largest tile that stays within a budget.

    Args:
        size: Height and width of the image, in lr pixels.
        budget: Bytes that one tile may take.
        bytes_per_pixel: Bytes that the network takes per lr pixel.

    Returns:
        Lr pixels, from 32 to 256; a multiple of 64 where possible, so that windows need no padding. 0 stands for the
        whole image as one tile, where that stays within the budget and 448 pixels a side.
    """
    height, width = (math.ceil(side / TILE_STEP) * TILE_STEP for side in size)
    if max(size) <= MAX_WHOLE and height * width * bytes_per_pixel <= budget:
        return 0
    side = math.isqrt(int(budget / bytes_per_pixel)) // TILE_STEP * TILE_STEP
    return max(MIN_TILE, min(MAX_TILE, side))


def measure_bytes_per_pixel(forward: Callable[[Tensor], Tensor], in_channels: int, device: torch.device) -> float:
    """Measure the memory that a network takes per lr pixel besides its weights, by one small forward pass.

    Args:
        forward: The network, as it will be called on tiles (N, C, H, W).
        in_channels: C.
        device: Where the tiles will be.

    Returns:
        Bytes, `HEADROOM` included; an overestimate for networks that pad.

    Raises:
        DeviceError: Not even the smallest tile fits.
    """
    for side in PROBE_SIDES:
        try:
            forward(torch.zeros(1, in_channels, 1, 1, device=device))  # tensors that are computed once are not counted
            probe = torch.zeros(1, in_channels, side, side, device=device)
            live = LiveBytes()
            with live:
                forward(probe)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return HEADROOM * live.peak / (side * side)
    raise too_small(device)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counter of the bytes of tensors that are created while it is active, in this thread, on any device.

    A storage that an operator returns and that was not among its arguments is new, and counts until it is freed. Unlike
    the statistics of an allocator this needs no CUDA and is not affected by other threads.

    Attributes:
        live: Bytes of such tensors that exist now.
        peak: The most that ever existed at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: nothing here is compiled, and the wrapper that PyTorch would add takes a second to import."""
        return False

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in tree_leaves((args, kwargs)):
            self._note(tensor, is_new=False)
        result = func(*args, **kwargs)
        for tensor in tree_leaves(result):
            self._note(tensor, is_new=True)
        return result

    def _note(self, tensor: object, *, is_new: bool) -> None:
        if not isinstance(tensor, Tensor):
            return
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._known:
            return
        size = storage.nbytes() if is_new else 0
        self._known.add(address)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, address, size)

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.live -= size


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that could be allocated now on a device or the host, or None where they are unknown.

    On CUDA blocks that PyTorch keeps for reuse count as free, and a limit of
    `torch.cuda.set_per_process_memory_fraction` holds.
    """
    if device.type != "cuda":
        return free_host_memory()
    free, total = torch.cuda.mem_get_info(device)
    used = torch.cuda.memory_allocated(device)
    fraction_of = getattr(torch.cuda, "get_per_process_memory_fraction", None)  # PyTorch 2.9 and later tell it
    allowed = total if fraction_of is None else int(fraction_of(_with_index(device)) * total)
    return max(0, min(free + torch.cuda.memory_reserved(device), allowed) - used)


def _with_index(device: torch.device) -> torch.device:
    """Return a CUDA device with its number, which some functions of PyTorch need."""
    return device if device.index is not None else torch.device("cuda", torch.cuda.current_device())


def too_small(device: torch.device) -> DeviceError:
    """Return the error for a device on which the smallest tile does not fit."""
    return DeviceError(
        f"device {str(device)!r} has too little free memory for even a tile of {MIN_TILE} pixels; "
        "free some, or use a smaller network or another device"
    )
