"""Costs of networks, plots of quality against cost, and local attribution maps."""

from finescale.analyze.attribution import Patch
from finescale.analyze.cost_report import CostReport
from finescale.analyze.costs import measure_cost, subject_of
from finescale.analyze.patch_attribution import (
    PatchAttribution,
    attribute_patch,
    compare_attributions,
    draw_attributions,
    draw_patch_attribution,
)
from finescale.analyze.plot import PlotData, draw_plot, gather_points, read_rows
from finescale.analyze.points import GivenPoint, point_from_text, read_points
from finescale.analyze.rules import RULES

__all__ = [
    "RULES",
    "CostReport",
    "GivenPoint",
    "Patch",
    "PatchAttribution",
    "PlotData",
    "attribute_patch",
    "compare_attributions",
    "draw_attributions",
    "draw_patch_attribution",
    "draw_plot",
    "gather_points",
    "measure_cost",
    "point_from_text",
    "read_points",
    "read_rows",
    "subject_of",
]
