"""Tables of super-resolution: networks on test sets, by the papers' protocol, beside what their authors print."""

from finescale.evaluate.cases import Case, benchmark_cases, cases_of, cases_without_originals
from finescale.evaluate.compare import Difference, paired_difference
from finescale.evaluate.folder import ResultsFolder
from finescale.evaluate.models import BICUBIC, Model, bicubic, labels_of, network_model
from finescale.evaluate.perceptual import PerceptualMetric, perceptual_metrics
from finescale.evaluate.protocol import PAPERS, PROTOCOLS, Protocol, protocol_named
from finescale.evaluate.report import Comparison, Report, Row, Table
from finescale.evaluate.run import Failure, Score, evaluate, run, upscaled

__all__ = [
    "BICUBIC",
    "PAPERS",
    "PROTOCOLS",
    "Case",
    "Comparison",
    "Difference",
    "Failure",
    "Model",
    "PerceptualMetric",
    "Protocol",
    "Report",
    "ResultsFolder",
    "Row",
    "Score",
    "Table",
    "benchmark_cases",
    "bicubic",
    "cases_of",
    "cases_without_originals",
    "evaluate",
    "labels_of",
    "network_model",
    "paired_difference",
    "perceptual_metrics",
    "protocol_named",
    "run",
    "upscaled",
]
