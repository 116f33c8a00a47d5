"""Pictures for training and testing: how they are prepared, found, paired, cropped and batched."""

from finescale.data.benchmarks import benchmark_names, benchmark_pairs, set_name
from finescale.data.cache import CachedImages, open_cache, write_cache
from finescale.data.check import PictureSet, Problem, benchmark_sets, check_pictures, plan_check
from finescale.data.degradation import DegradationSettings, degrade
from finescale.data.downsampling import DownsampleSettings, downsample_files
from finescale.data.folders import check_name
from finescale.data.hr_images import find_hr_images
from finescale.data.lmdb import LmdbImages, write_lmdb
from finescale.data.loader import Batches, batches, make_batch
from finescale.data.pairs import Pair, find_images, find_pairs, match_pairs
from finescale.data.samples import Augmentation, Source, crop_pair
from finescale.data.sources import open_source
from finescale.data.subimages import CropSettings, crop_files
from finescale.system.jobs import FileReport

__all__ = [
    "Augmentation",
    "Batches",
    "CachedImages",
    "CropSettings",
    "DegradationSettings",
    "DownsampleSettings",
    "FileReport",
    "LmdbImages",
    "Pair",
    "PictureSet",
    "Problem",
    "Source",
    "batches",
    "benchmark_names",
    "benchmark_pairs",
    "benchmark_sets",
    "check_name",
    "check_pictures",
    "crop_files",
    "crop_pair",
    "degrade",
    "downsample_files",
    "find_hr_images",
    "find_images",
    "find_pairs",
    "make_batch",
    "match_pairs",
    "open_cache",
    "open_source",
    "plan_check",
    "set_name",
    "write_cache",
    "write_lmdb",
]
