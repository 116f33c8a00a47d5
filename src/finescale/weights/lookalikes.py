"""Well-known networks that none of our families covers, recognised by their keys; for error messages alone."""

from __future__ import annotations

import re
from collections.abc import Collection

LOOKALIKES = (
    (
        "the Swift Parameter-free Attention Network, which shares its acronym with the sliding proxy network",
        (r"conv_1\.sk\.weight", r"block_1\.c1_r\.sk\.weight"),
    ),
    (
        "CRAFT for finding text in pictures, which shares its name with a super-resolution network",
        (r"basenet\.slice1\.\d+\.weight", r"upconv1\.conv\.0\.weight"),
    ),
    ("a LoRA, which changes another network", (r".+\.lora_(up|down|A|B)(\.\w+)?\.weight",)),
    ("a language model", (r"(.+\.)?(embed_tokens|tok_embeddings|word_embeddings|wte)\.weight",)),
    ("ESRGAN (RRDB)", (r"model\.1\.sub\.0\.RDB1\.conv1\.0\.weight|(RRDB_trunk|body)\.0\.(RDB|rdb)1\.conv1\.weight",)),
    (
        "EDSR",
        (r"head\.0\.weight|conv_first\.weight", r"body\.0\.(body\.0|conv1)\.weight", r"(tail\.0|upsample)\.0\.weight"),
    ),
    ("Real-ESRGAN's compact network", (r"body\.0\.weight", r"body\.1\.weight", r"body\.2\.weight")),
    ("a discriminator, which judges pictures in a training", (r"conv0(_0)?\.weight", r"(linear2|conv9)\.weight")),
    ("a network that classifies pictures", (r"(fc|head|classifier|classifier\.\d)\.weight",)),
)
"""Name, and the patterns that whole keys of such a network match; all of them must be found, and the first row wins."""


def looks_like(keys: Collection[str]) -> str | None:
    """The well-known network that a state dict seems to belong to, in words; None if no row of the table fits."""
    for name, marks in LOOKALIKES:
        if all(any(re.fullmatch(mark, key) for key in keys) for mark in marks):
            return name
    return None
