"""What there is to choose from: every network at every scale, and what its authors publish of it."""

from finescale.zoo.card import model_card
from finescale.zoo.entries import Entry, Weights, choose_scale, entry, models
from finescale.zoo.openmodeldb import openmodeldb_entry
from finescale.zoo.page import networks_page
from finescale.zoo.wording import NOT_STATED, citation, multiply_adds, parameters, printed, restriction, rules, score

__all__ = [
    "NOT_STATED",
    "Entry",
    "Weights",
    "choose_scale",
    "citation",
    "entry",
    "model_card",
    "models",
    "multiply_adds",
    "networks_page",
    "openmodeldb_entry",
    "parameters",
    "printed",
    "restriction",
    "rules",
    "score",
]
