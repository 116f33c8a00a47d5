"""`Upscaler`: super-resolution of whole images, in memory, with one network."""

from __future__ import annotations

import copy
import logging
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from finescale import weights
from finescale.engines import (
    EngineChoice,
    EngineName,
    Precision,
    build_engine,
    check_engine,
    check_precision,
    choose_engine,
    choose_precision,
)
from finescale.errors import DeviceError, NumericalError
from finescale.images import Image
from finescale.images.image import Notes
from finescale.layers.mirror_padding import pad_to_size
from finescale.networks import WrappedNetwork, as_network
from finescale.system.memory import UNKNOWN_MEMORY, is_out_of_memory
from finescale.system.places import Place, place_of
from finescale.system.remote import check_output, local_copy
from finescale.upscale.alpha import extend_color
from finescale.upscale.array_rows import RowArray, upscale_array
from finescale.upscale.ensemble import self_ensemble
from finescale.upscale.flaws import Flaw
from finescale.upscale.image_types import adapt_image
from finescale.upscale.memory import (
    MAX_WHOLE,
    MIN_TILE,
    OPENVINO_MEMORY,
    PROBE_SIDES,
    free_memory,
    largest_tile,
    measure_bytes_per_pixel,
    too_small,
)
from finescale.upscale.report import UpscaleReport
from finescale.upscale.streaming import upscale_on_disk
from finescale.upscale.tiling import Tile, Tiling, plan_average, plan_chop, plan_pad, plan_tiles, plan_whole
from finescale.upscale.tiny import crop, extend, margin_of

AnyImage = TypeVar("AnyImage")

OnTile = Callable[[int, int], None]
"""Called after each tile of an image with the number of tiles done, and of all its tiles."""

logger = logging.getLogger("finescale")


class Upscaler:
    """Upscaler of images with one network, tile by tile.

    The image and the result stay on the host and only tiles go to the device, so the device memory needed does not
    depend on the image's size. An upscaler keeps no state of a call and may be called from several threads.

    Args:
        network: One of finescale's networks, or any module that maps (N, C, H, W) to (N, C, scale * H, scale * W) in
            [0, 1]. It is moved to the device and set to evaluation mode. Tiles begin at multiples of its ``period``. A
            network for gray images computes red, green and blue each by itself; one for RGB gets a gray image as three
            equal channels.
        scale: How many times a module enlarges that is no network of finescale's; else None, or its own.
        channels: Of the module's images, by default 3; else None, or its own.
        multiple: Number that must divide the sides of the module's images, by default 1; see
            `finescale.networks.WrappedNetwork`.
        tiling: How images are cut; by default as few tiles as the free memory allows.
        ensemble: Average over the eight flips and transposes of each tile: slightly better, eight times slower.
        device: "cpu", "cuda", "cuda:1", ...
        precision: Precision of the network's arithmetic. "bf16" and "fp16" run it under autocast, which is faster where
            the hardware has them; values then differ in the third digit, and a tile whose result is not finite is
            recomputed in float32 with a warning. "auto" is bf16 on devices that have it, on CPUs where it is faster for
            this family, else float32.
        engine: Runtime that computes the network: "torch", "compile" or "openvino", which translates the network at its
            first use, so that later changes of its weights have no effect; or "auto": OpenVINO for a call whose image
            repays its translation, else PyTorch. `resolved` decides that for many images together.
        notes: What a user should know about the network, one sentence each, such as that its weight file fits another
            network as well; by default the notes of a third-party network, else none.

    Raises:
        ValueError: Unknown device, precision or engine, one that is not for this network, a network that takes neither
            gray nor RGB images, a module whose scale is missing or another one, or a published rule's tiles are not
            whole windows of the network.
        DeviceError: There is no such device here.
        MissingExtraError: The engine is not installed.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        scale: int | None = None,
        channels: int | None = None,
        multiple: int | None = None,
        tiling: Tiling | None = None,
        ensemble: bool = False,
        device: str | torch.device = "cpu",
        precision: Precision = "float32",
        engine: EngineName = "torch",
        notes: Sequence[str] | None = None,
    ) -> None:
        self.device = check_device(device)
        network = as_network(network.to(self.device), scale=scale, channels=channels, multiple=multiple)
        if network.in_channels not in (1, 3):
            raise ValueError(
                f"the network takes images of {network.in_channels} channels, but pictures have 1 (gray) or 3 (RGB); "
                f"call the network itself with tensors (N, {network.in_channels}, H, W)"
            )
        self.network = network.eval()
        check_engine(engine)
        self._asked_precision: Precision = precision
        self._use(engine)
        self._by: dict[str, Self] = {}
        self.scale = network.scale
        self.in_channels = network.in_channels
        self.period = network.period
        if notes is None:
            notes = network.notes if isinstance(network, WrappedNetwork) else ()
        self.notes = tuple(notes)
        self.tiling = Tiling() if tiling is None else tiling
        self.tiling.check_windows(self.period)
        self.ensemble = ensemble
        self.name: str | None = None
        """What `from_pretrained` was given."""
        self.build_for_flawed: Callable[[], Self] | None = None
        """Builds what takes the files of a batch that look compressed or noisy, at the first; None: it takes all."""

    def _use(self, engine: EngineName) -> None:
        """Build an engine; that of "auto" is PyTorch until a run is known."""
        self.engine = engine
        runtime = "torch" if engine == "auto" else engine
        self._compute = build_engine(runtime, self.network, device=self.device)
        self.precision = choose_precision(
            self._asked_precision,
            self.network,
            device=self.device,
            engine=runtime,
            offered=self._compute.precisions,
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        scale: int | None = None,
        tiling: Tiling | None = None,
        ensemble: bool = False,
        device: str | torch.device = "cpu",
        precision: Precision = "float32",
        engine: EngineName = "torch",
        offline: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> Self:
        """Build an upscaler with trained weights.

        Args:
            name: A bundled model ("default"), a published network ("hit-srf"), "owner/name" of a repository on the
                Hugging Face hub, or a path to a weight file. A third-party file is read by spandrel, where that is
                installed, and `notes` says so.
            scale: Which of a bundled or published model's scales, by default the largest; a file has one of its own.
            tiling: How images are cut; by default as few tiles as the free memory allows.
            ensemble: Average over the eight flips and transposes of each tile.
            device: "cpu", "cuda", "cuda:1", ...
            precision: "float32", "bf16", "fp16" or "auto".
            engine: "torch", "compile", "openvino" or "auto".
            offline: Download nothing; published weights must have been downloaded before.
            settings: Fields of the network's settings that a weight file does not determine, where they differ from the
                published ones.

        Raises:
            ValueError: There is no such model, or not at this scale, or the arguments do not fit the network.
            WeightsError: The file cannot be used.
            SettingsError: ``settings`` has unknown or wrong values.
            DownloadError: Published weights cannot be found or downloaded, or have changed since they were downloaded.
            MissingExtraError: The engine, or the hub's client for a download, is not installed.
            DeviceError: There is no such device here.
        """
        check_engine(engine)
        check_precision(precision)
        device = check_device(device)
        loaded = weights.load_named(name, scale=scale, offline=offline, settings=settings)
        upscaler = cls(
            loaded.network,
            tiling=tiling,
            ensemble=ensemble,
            device=device,
            precision=precision,
            engine=engine,
            notes=loaded.doubts,
        )
        upscaler.name = str(name)
        return upscaler

    def __call__(self, image: AnyImage, *, on_tile: OnTile | None = None, mirror: bool = True) -> AnyImage:
        """Upscale an image, or a batch of images, and return the same kind.

        Args:
            image: One of

                - `finescale.Image`: depth, profile and metadata are kept;
                - a floating-point tensor (C, H, W) or (N, C, H, W) in [0, 1];
                - a numpy array (H, W) or (H, W, C), uint8, uint16 or floating point in [0, 1];
                - a PIL image.

                C = 1 is gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
            on_tile: Called after each tile with the number of tiles done, and of all tiles. The count restarts with a
                larger total where tiles turn out too large for the device.
            mirror: Extend the image by its mirror where the authors' test code does so before it reaches the network;
                otherwise the network's own padding acts.

        Returns:
            The same kind, dtype and layout, ``scale`` times as high and wide, clamped to its range.

        Raises:
            TypeError: The object is none of these kinds of images.
            ValueError: The shape, dtype or range is not that of an image.
            ImageError: The image is too small for the tiling.
            NumericalError: The network's result is not finite, in float32 as well.
            DeviceError: The device has too little memory for the smallest tile or for the tiling that was requested, or
                the host for the result.
        """
        adapted = adapt_image(image)
        color, alpha = adapted.color, adapted.alpha
        if self.engine == "auto":
            size = (color.shape[-2], color.shape[-1])
            return self.resolved([size] * len(color))(image, on_tile=on_tile, mirror=mirror)
        if alpha is not None:
            color = torch.stack([extend_color(*pair) for pair in zip(color, alpha, strict=True)])
        margin = margin_of((color.shape[-2], color.shape[-1])) if self.tiling.rule == "blend" else 0
        if margin:
            color, alpha = extend(color, margin), None if alpha is None else extend(alpha, margin)
        height, width = color.shape[-2:]
        size = self.network.mirrored_size((height, width)) if mirror else (height, width)
        mirrored, mirrored_alpha = pad_to_size(color, size), None if alpha is None else pad_to_size(alpha, size)
        color_sr, alpha_sr = self._canvas(mirrored), None if mirrored_alpha is None else self._canvas(mirrored_alpha)

        passes = list(zip(self._planes(mirrored), self._planes(color_sr), strict=True))
        if mirrored_alpha is not None and alpha_sr is not None:
            for plane, canvas in zip(mirrored_alpha, alpha_sr, strict=True):
                if plane.amin() < plane.amax():
                    passes.append((plane, canvas))
                else:
                    canvas.fill_(plane[0, 0, 0])
        redone = self._fill(passes, on_tile)
        height, width = height * self.scale, width * self.scale
        color_sr = color_sr[..., :height, :width]
        alpha_sr = None if alpha_sr is None else alpha_sr[..., :height, :width]
        if margin:
            color_sr = crop(color_sr, margin, lr=color, scale=self.scale)
            alpha_sr = None if alpha is None or alpha_sr is None else crop(alpha_sr, margin, lr=alpha, scale=self.scale)
        result: AnyImage = adapted.restore(color_sr, alpha_sr)
        for note in self.notes_on(redone):
            logger.warning("%s", note)
            if isinstance(result, Image):
                result = replace(result, notes=(*result.notes, note))
        return result

    def notes_on(self, num_redone: int) -> Notes:
        """Return a note on a number of tiles that were recomputed in float32, none for none."""
        if not num_redone:
            return ()
        tiles = "1 tile was" if num_redone == 1 else f"{num_redone} tiles were"
        return (f"{tiles} recomputed in float32, since the result in {self.precision} was not finite",)

    def chosen_for(self, flaw: Flaw | None) -> Self:
        """Return the upscaler that takes a file of a batch, by the visible flaw of its picture."""
        return self if flaw is None or self.build_for_flawed is None else self._for_flawed

    @cached_property
    def _for_flawed(self) -> Self:
        assert self.build_for_flawed is not None
        return self.build_for_flawed()

    def upscale_file(
        self,
        path: Place | str,
        output: Place | str,
        *,
        quality: int | None = None,
        pyramid: bool = False,
        max_pixels: int | None = None,
        on_tile: OnTile | None = None,
    ) -> UpscaleReport:
        """Upscale an image file of any size; neither the image nor its result is ever whole in memory.

        The result has the pixels and metadata of `finescale.write_image` for the whole image. A call that is stopped
        keeps finished rows in a hidden folder beside the result, and the same call goes on behind them.

        Args:
            path: The image, a path or a URL that fsspec knows.
            output: The result, a path or a URL: .png, .jpg, .webp, .tif or .dzi (tiles for viewers); an existing one is
                replaced.
            quality: 1 to 100 for JPEG (default 95), WebP (95; 100 is lossless) and DZI (95).
            pyramid: Store a TIFF with reduced copies, for viewers.
            max_pixels: Refuse an image with more pixels before it is decoded; None is 250 million, or 32 for each byte
                of the file where that is more.
            on_tile: As for a call with an image; tiles of an earlier call that was stopped count as done.

        Returns:
            A report with sizes, seconds and notes.

        Raises:
            ValueError: ``quality`` is out of range, or the network cannot take the image's channels.
            ImageError: The image cannot be read, is too small to be upscaled in parts, or the result cannot be written.
            NumericalError: The network's result is not finite, in float32 as well.
            DeviceError: The device has too little memory for the smallest tile or for the tiling that was requested.
            RemoteError: A remote place cannot be reached, read or written.
            MissingExtraError: A package for a remote place is missing.
        """
        source, target = place_of(path), place_of(output)
        check_output(target)
        with local_copy(source) as local:
            return upscale_on_disk(
                self,
                local,
                target,
                source=source,
                quality=quality,
                pyramid=pyramid,
                max_pixels=max_pixels,
                on_tile=on_tile,
            )

    def upscale_rows(self, source: RowArray, target: RowArray, *, on_tile: OnTile | None = None) -> None:
        """Upscale an array that may be larger than memory, such as a `numpy.memmap`, into another one.

        Rows are read by ``source[first:last]`` and written by ``target[first:last] = rows``, from top to bottom. The
        result is that of a call with the whole array.

        Args:
            source: (H, W) or (H, W, C) as for a call with an array, H and W at least 8.
            target: ``scale`` times as high and wide, with the same channels and dtype.
            on_tile: As for a call with an array; all rows are written again where tiles turn out too large.

        Raises:
            ValueError: The shape, dtype or range of the source, or the shape or dtype of the target, is wrong.
            NumericalError: The network's result is not finite, in float32 as well.
            DeviceError: The device has too little memory for the smallest tile or for the tiling that was requested.
        """
        upscale_array(self, source, target, on_tile=on_tile)

    def choose_engine(self, sizes: Iterable[tuple[int, int]]) -> EngineChoice:
        """Return what "auto" is in a run, and why; it depends on the network, the device, and the sizes of the images.

        Args:
            sizes: Height and width of each image of the run, in lr pixels.
        """
        tile = self.tiling.tile
        return choose_engine(
            self.network,
            device=self.device,
            sizes=sizes,
            whole=MAX_WHOLE if tile == "auto" else tile or sys.maxsize,
            passes=8 if self.ensemble else 1,
        )

    def resolved(self, sizes: Iterable[tuple[int, int]]) -> Self:
        """Return an upscaler with the engine that "auto" is in a run; this one where its engine is another.

        Args:
            sizes: As for `choose_engine`; the images of the run may then be upscaled one by one.
        """
        if self.engine != "auto":
            return self
        return self.by(self.choose_engine(sizes).engine)

    def by(self, engine: EngineName) -> Self:
        """Return the same upscaler with another engine, which is built once.

        Raises:
            MissingExtraError: The engine is not installed.
        """
        if engine not in self._by:
            chosen = copy.copy(self)
            chosen.__dict__.pop("bytes_per_pixel", None)  # another engine takes other memory
            chosen.__dict__.pop("_for_flawed", None)
            chosen._use(engine)
            if self.build_for_flawed is not None:
                chosen.build_for_flawed = lambda: self._for_flawed.by(engine)
            self._by[engine] = chosen
        return self._by[engine]

    @property
    def multiplies_integers(self) -> bool:
        """Whether the engine multiplies the integers of a quantized network, rather than floats of the same values."""
        return self._compute.multiplies_integers

    @cached_property
    def bytes_per_pixel(self) -> float:
        """Bytes that the network takes on the device per lr pixel of a tile, besides its weights (measured once)."""
        # Measured with PyTorch whatever the engine, since OpenVINO does not expose its memory.
        forward = partial(build_engine("torch", self.network, device=self.device), precision=self.precision)
        with torch.inference_mode():
            measured = measure_bytes_per_pixel(forward, self.in_channels, self.device)
        return measured * OPENVINO_MEMORY if self.engine == "openvino" else measured

    def _canvas(self, images: Tensor) -> Tensor:
        """Allocate the upscaled images of (N, C, H, W) on the host."""
        *batch, height, width = images.shape
        shape = (*batch, height * self.scale, width * self.scale)
        needed, free = 4 * math.prod(shape), free_memory(torch.device("cpu"))
        if free is not None and needed > free:
            raise DeviceError(
                f"a result of {shape[-2]} x {shape[-1]} pixels takes {needed / 2**30:.1f} GiB of host memory, but only "
                f"{free / 2**30:.1f} GiB are free; upscale the image in parts"
            )
        return torch.empty(shape)

    def _planes(self, images: Tensor) -> Sequence[Tensor]:
        """Split images (N, C, H, W) into what one pass takes: (C, H, W), or single channels for a grayscale network."""
        return list(images.flatten(0, 1)[:, None] if self.in_channels == 1 else images)

    def _fill(self, passes: Sequence[tuple[Tensor, Tensor]], on_tile: OnTile | None) -> int:
        """Fill the canvas of each pass with its upscaled image, with smaller tiles if needed; all images have one size.

        When a tile does not fit on the device, all canvases are redone with smaller tiles, so that no seam is left
        between tiles of two sizes. Returns the number of tiles that were recomputed in float32.
        """
        height, width = passes[0][0].shape[-2:]
        tile = self.first_tile((height, width))
        while True:
            plan = self.plan((height, width), tile)
            try:
                return self._attempt(passes, plan, on_tile)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the handler, where the failed tile's tensors are released.
            tile = self.smaller_tile(plan)

    def first_tile(self, size: tuple[int, int]) -> int:
        """Return the side of the first tiles to try for an image of a size; 0 for the whole image."""
        tiling = self.tiling
        if tiling.tile != "auto":
            return tiling.tile
        if tiling.rule != "blend" or (tiling.max_memory is None and max(size) <= max(PROBE_SIDES)):
            return 0  # the rule decides, or the image is no larger than the probe of the measurement
        free = free_memory(self.device)
        budget = tiling.max_memory or (UNKNOWN_MEMORY if free is None else free) // 2
        return largest_tile(size, budget=budget, bytes_per_pixel=self.bytes_per_pixel)

    def plan(self, size: tuple[int, int], tile: int) -> list[Tile]:
        """Return the tiles of an image, row by row, where their side is not fixed by a published rule."""
        if self.tiling.rule == "chop":
            return plan_chop(size)
        if self.tiling.rule == "pad":
            return plan_pad(size, *self.tiling.stated, period=self.period)
        if self.tiling.rule == "average":
            return plan_average(size, *self.tiling.stated, period=self.period)
        return plan_tiles(size, tile, self.tiling.overlap_of(tile), period=self.period) if tile else plan_whole(size)

    def smaller_tile(self, plan: Sequence[Tile]) -> int:
        """Return half the side of tiles that did not fit on the device.

        Raises:
            DeviceError: They are the smallest ones, or the tiling allows no others.
        """
        largest = max(plan, key=lambda tile: tile.height * tile.width)
        side = max(largest.height, largest.width)
        if self.tiling.rule != "blend" or self.tiling.tile == 0:
            asked, remedy = (
                ("tile=0", "tile='auto'")
                if self.tiling.rule == "blend"
                else (f"rule={self.tiling.rule!r}", "rule='blend'")
            )
            raise DeviceError(
                f"device {str(self.device)!r} has too little free memory for a tile of {largest.height} x "
                f"{largest.width} pixels, which {asked} requires; use {remedy}"
            )
        if side <= MIN_TILE:
            raise too_small(self.device)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        smaller = max(MIN_TILE, side // 2)
        logger.warning("tiles of %d pixels do not fit on %s; trying %d", side, self.device, smaller)
        return smaller

    def _attempt(self, passes: Sequence[tuple[Tensor, Tensor]], plan: Sequence[Tile], on_tile: OnTile | None) -> int:
        done, total, redone = 0, len(passes) * len(plan), 0
        for lr, canvas in passes:
            canvas.zero_()
            for tile in plan:
                sr, precision = self.upscale_tile(tile.cut(lr))
                tile.add_to(canvas, sr, self.scale)
                redone += precision != self.precision
                done += 1
                if on_tile is not None:
                    on_tile(done, total)
            canvas.clamp_(0, 1)
        return redone

    def upscale_tile(self, lr: Tensor) -> tuple[Tensor, str]:
        """Upscale one tile (C, H, W), from and to the host; returns the result and the precision that it took.

        Raises:
            NumericalError: The network's result is not finite, in float32 as well.
        """
        tile = lr[None].to(self.device).expand(-1, self.in_channels, -1, -1)  # gray becomes equal channels
        for precision in dict.fromkeys((self.precision, "float32")):
            run = partial(self._run, precision=precision)
            sr = (self_ensemble(run, tile) if self.ensemble else run(tile))[0]
            if lr.shape[0] < self.in_channels:
                sr = sr.mean(0, keepdim=True)
            sr = sr.cpu()
            if sr.isfinite().all():
                return sr, precision
        raise NumericalError("the network's result in precision 'float32' is not finite; use other weights")

    @torch.inference_mode()
    def _run(self, lr: Tensor, *, precision: str | None = None) -> Tensor:
        """Run the network on images (N, in_channels, H, W), on the device; returns float32."""
        return self._compute(lr, precision=precision or self.precision)


def check_device(device: str | torch.device) -> torch.device:
    """Return a device, once it is known to exist.

    Raises:
        ValueError: It is no name of a device.
        DeviceError: This machine has none of this name.
    """
    try:
        checked = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:0', got {device!r}") from None
    if checked.type == "cuda" and (checked.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"there is no device {str(device)!r}: {torch.cuda.device_count()} CUDA devices; use 'cpu'")
    if checked.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("there is no device 'mps'; use 'cpu'")
    return checked
