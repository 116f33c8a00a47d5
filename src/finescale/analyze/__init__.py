"""Costs of networks, plots of quality against cost, and local attribution maps."""

from finescale.analyze.attribution import Patch
from finescale.analyze.cost_report import CostReport
from finescale.analyze.patch_attribution import PatchAttribution, attribute_patch, draw_patch_attribution
from finescale.analyze.plot import PlotData, draw_plot, gather_points, read_rows

__all__ = [
    "CostReport",
    "Patch",
    "PatchAttribution",
    "PlotData",
    "attribute_patch",
    "draw_patch_attribution",
    "draw_plot",
    "gather_points",
    "read_rows",
]
