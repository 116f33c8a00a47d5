"""Image files <-> RGB float tensors, on libvips: the only package that decodes or encodes pixels."""

from finescale.images.formats import LARGE_FORMATS, MAX_PIXELS, READABLE_SUFFIXES, WRITABLE_SUFFIXES
from finescale.images.image import Image
from finescale.images.metadata import profile_name
from finescale.images.reading import Samples, decode_image, read_image, read_samples, read_size
from finescale.images.stored import levels_header
from finescale.images.writing import Storage, check_size, encode_jpeg, encode_png, write_image, write_stored

__all__ = [
    "LARGE_FORMATS",
    "MAX_PIXELS",
    "READABLE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "Image",
    "Samples",
    "Storage",
    "check_size",
    "decode_image",
    "encode_jpeg",
    "encode_png",
    "levels_header",
    "profile_name",
    "read_image",
    "read_samples",
    "read_size",
    "write_image",
    "write_stored",
]
