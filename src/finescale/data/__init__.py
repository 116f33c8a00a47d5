"""Pictures for training and testing: finding, pairing, cropping, batching."""

from finescale.data.benchmarks import benchmark_pairs
from finescale.data.crops import crop_pair, sample
from finescale.data.loader import TrainingImages, batches, make_batch
from finescale.data.pairs import Pair, find_images, find_pairs

__all__ = [
    "Pair",
    "TrainingImages",
    "batches",
    "benchmark_pairs",
    "crop_pair",
    "find_images",
    "find_pairs",
    "make_batch",
    "sample",
]
