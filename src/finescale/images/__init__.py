"""Image files <-> RGB float tensors, on libvips: the only package that decodes or encodes pixels."""

from finescale.images.formats import MAX_PIXELS, READABLE_SUFFIXES, WRITABLE_SUFFIXES
from finescale.images.image import Image
from finescale.images.reading import decode_image, read_image, read_size
from finescale.images.writing import check_size, encode_jpeg, encode_png, write_image

__all__ = [
    "MAX_PIXELS",
    "READABLE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "Image",
    "check_size",
    "decode_image",
    "encode_jpeg",
    "encode_png",
    "read_image",
    "read_size",
    "write_image",
]
