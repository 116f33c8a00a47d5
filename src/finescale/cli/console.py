"""What every verb says to a person: on standard error, standard output being for results."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from finescale.errors import printable_name

errors = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
"""Messages and progress; told as they are, names in brackets included."""


def say(text: str) -> None:
    """One message, on one line: what a name has of control characters is escaped."""
    errors.print(printable_name(text))


def print_json(report: dict[str, Any]) -> None:
    """The one machine-readable report of a command, on standard output; broken bytes in names are escaped."""
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
