"""Damaged copies of files: what a broken disk, a cut connection or a hostile sender makes of them."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence

Mutation = Callable[[bytearray, random.Random], None]


def mutated(seeds: Sequence[bytes], number: int) -> bytes:
    """Return a damaged copy of one of some files.

    Args:
        seeds: Whole files.
        number: Decides which file, which damage and where; the same number always gives the same bytes.
    """
    chance = random.Random(number)
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 4, 12))):
        if data:
            chance.choice(_MUTATIONS)(data, chance)
    return _with_checksums(bytes(data)) if data.startswith(b"\x89PNG") and chance.random() < 0.7 else bytes(data)


def _with_checksums(png: bytes) -> bytes:
    """Return a PNG file whose chunks have the checksums of their content, so that damage gets past the first look."""
    data, start = bytearray(png), 8
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            break
        data[end - 4 : end] = zlib.crc32(data[start + 4 : end - 4]).to_bytes(4, "big")
        start = end
    return bytes(data)


def _place(data: bytearray, chance: random.Random) -> int:
    """Choose an offset, half of the time within the first 128 bytes, where headers are."""
    return chance.randrange(min(len(data), 128)) if chance.random() < 0.5 else chance.randrange(len(data))


def _flip_bit(data: bytearray, chance: random.Random) -> None:
    data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _set_byte(data: bytearray, chance: random.Random) -> None:
    data[_place(data, chance)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _set_number(data: bytearray, chance: random.Random) -> None:
    """Overwrite a field of 2, 4 or 8 bytes by a number that such fields fear."""
    kind, width = chance.choice((("H", 2), ("I", 4), ("Q", 8)))
    top = 2 ** (8 * width) - 1
    value = chance.choice((0, 1, top, top // 2, top // 2 + 1, top - 1, min(len(data), top), chance.randrange(top)))
    start = _place(data, chance)
    data[start : start + width] = struct.pack(chance.choice("<>") + kind, value)


def _truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _delete(data: bytearray, chance: random.Random) -> None:
    start = _place(data, chance)
    del data[start : start + chance.choice((1, 2, 4, 16, 200))]


def _insert(data: bytearray, chance: random.Random) -> None:
    start = _place(data, chance)
    data[start:start] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 2, 4, 16, 200))))


def _repeat(data: bytearray, chance: random.Random) -> None:
    start = _place(data, chance)
    data[start:start] = data[start : start + chance.choice((4, 16, 200))]


def _blank(data: bytearray, chance: random.Random) -> None:
    start = _place(data, chance)
    length = min(chance.choice((4, 16, 200, 5000)), len(data) - start)
    data[start : start + length] = bytes([chance.choice((0, 0xFF))]) * length


_MUTATIONS: Sequence[Mutation] = (
    _flip_bit,
    _set_byte,
    _set_number,
    _truncate,
    _delete,
    _insert,
    _repeat,
    _blank,
)
