"""Evaluation of networks on test sets, by the papers' protocol, beside the published values."""

from finescale.evaluate.cases import Case, benchmark_cases, cases_of, cases_without_originals
from finescale.evaluate.compare import Difference, paired_difference
from finescale.evaluate.folder import ResultsFolder, check_results_folder
from finescale.evaluate.models import BICUBIC, Model, bicubic, labels_of, network_model
from finescale.evaluate.perceptual import PerceptualMetric, check_metrics, perceptual_metrics
from finescale.evaluate.plan import Execution, Plan, carry_out, evaluate_networks, plan_evaluation, tiling_of
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
    "Execution",
    "Failure",
    "Model",
    "PerceptualMetric",
    "Plan",
    "Protocol",
    "Report",
    "ResultsFolder",
    "Row",
    "Score",
    "Table",
    "benchmark_cases",
    "bicubic",
    "carry_out",
    "cases_of",
    "cases_without_originals",
    "check_metrics",
    "check_results_folder",
    "evaluate",
    "evaluate_networks",
    "labels_of",
    "network_model",
    "paired_difference",
    "perceptual_metrics",
    "plan_evaluation",
    "protocol_named",
    "run",
    "tiling_of",
    "upscaled",
]
