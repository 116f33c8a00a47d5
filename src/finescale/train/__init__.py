"""Training of networks: settings in, a weight file out, resumable to the bit."""

from finescale.train.loop import check, train
from finescale.train.progress import OnStep, TrainingProgress
from finescale.train.settings import TrainSettings

__all__ = ["OnStep", "TrainSettings", "TrainingProgress", "check", "train"]
