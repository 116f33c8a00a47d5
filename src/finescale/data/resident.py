"""Samples of a training cut on the device, out of pictures that all lie in its memory.

A GPU takes a step in less time than threads need to cut its samples. Here the CPU draws only numbers; the device copies
the pixels. The samples are those of `finescale.data.samples`, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from finescale.data.samples import NUM_WAYS, Augmentation, Draw, Source, vary, with_channels
from finescale.resize import downsample


def resident_bytes(source: Source) -> int:
    """Return the bytes that the pictures of a source take in a device's memory, with the low-resolution ones."""
    pixels = sum(height * width for height, width in source.sizes)
    return source.channels * (pixels + pixels // source.scale**2)


class ResidentSamples:
    """Pictures of a source in a device's memory, of which batches are cut there.

    Args:
        source: The pictures, and how samples are made of them; without a degradation, which only the CPU computes.
        device: Where the pictures are held.

    Raises:
        ValueError: The source has a degradation.
        DataError: A picture is decoded now, and damaged.
        ImageReadError: The same, where it is a file.
    """

    def __init__(self, source: Source, device: torch.device) -> None:
        if source.degradation is not None:
            raise ValueError("samples with a degradation are made by the CPU, one by one")
        self._source = source
        self._device = device
        scale, patch, channels = source.scale, source.patch, source.channels
        hr = (with_channels(image, channels) for image in source.hr)
        if source.lr is None:
            lr = (downsample(with_channels(image, channels), scale=scale) for image in source.hr)
        else:
            lr = (with_channels(image, channels) for image in source.lr)
        self._hr = _Pictures(hr, scale * patch, source.augmentation, device)
        self._lr = _Pictures(lr, patch, source.augmentation, device)

    def batch(self, indices: range) -> tuple[Tensor, Tensor]:
        """Cut some samples, the same whenever and wherever they are cut.

        Args:
            indices: Which samples of the source's sequence.

        Returns:
            lr (N, C, patch, patch) and hr (N, C, scale * patch, scale * patch), float32 in [0, 1], on the device.
        """
        draws = [self._source.draw(index) for index in indices]
        scale = self._source.scale
        return self._lr.cut(draws), self._hr.cut(
            [draw._replace(top=scale * draw.top, left=scale * draw.left) for draw in draws]
        )


class ResidentBatches(Iterator[tuple[Tensor, Tensor]]):
    """Iterator over batches that a device cuts when they are asked for, in place of `finescale.data.loader.Batches`.

    Args:
        samples: What to cut from.
        indices: The samples of each batch.

    Attributes:
        waited_s: 0.0; nothing is waited for.
    """

    def __init__(self, samples: ResidentSamples, indices: Iterator[range]) -> None:
        self.waited_s = 0.0
        self._samples = samples
        self._indices = indices

    def __next__(self) -> tuple[Tensor, Tensor]:
        return self._samples.batch(next(self._indices))

    def close(self) -> None:
        """End the iteration."""
        self._indices = iter(())


class _Pictures:
    """Pictures (C, H, W), uint8, one after the other in a device's memory, of which square parts are cut."""

    def __init__(self, pictures: Iterator[Tensor], side: int, augmentation: Augmentation, device: torch.device) -> None:
        self._device = device
        flat, self._starts, self._sizes = [], [], []
        start = 0
        for picture in pictures:
            flat.append(picture.reshape(-1).to(device))
            self._starts.append(start)
            self._sizes.append((picture.shape[-2], picture.shape[-1]))
            start += picture.numel()
            self._channels = picture.shape[0]
        self._levels = torch.cat(flat)
        # Which pixel of the cut part each pixel of the sample is, for each way round.
        pixels = torch.arange(side * side).reshape(1, side, side)
        ways = torch.stack([vary(pixels, coins, augmentation)[0] for coins in range(NUM_WAYS)])
        self._rows, self._columns = (ways // side).to(device), (ways % side).to(device)

    def cut(self, draws: Sequence[Draw]) -> Tensor:
        """Cut parts (N, C, side, side), float32 in [0, 1]; their corners are counted in pixels of these pictures."""
        numbers = []
        for draw in draws:
            height, width = self._sizes[draw.picture]
            corner = self._starts[draw.picture] + draw.top * width + draw.left
            numbers.append((corner, width, height * width, draw.coins))
        table = torch.tensor(numbers, dtype=torch.int64)
        if self._device.type == "cuda":
            table = table.pin_memory()
        corner, width, plane, coins = table.to(self._device, non_blocking=True).T[..., None, None, None]
        ways = coins.flatten()
        pixel = corner + width * self._rows[ways][:, None] + self._columns[ways][:, None]
        channels = torch.arange(self._channels, device=self._device).reshape(-1, 1, 1)
        return self._levels[pixel + plane * channels].float().div_(255)
