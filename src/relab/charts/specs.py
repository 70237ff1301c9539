"""What all specifications of charts (Vega-Lite) share: colours, and how a chart of outside data becomes a harmless document.

Whatever comes from outside is a value in the data, and nothing else: Vega-Lite makes expressions of titles and of lists to
sort by, and quotes them badly.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

PALETTE: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
"""Okabe and Ito's colours for all kinds of colour vision, less black and yellow, each of which is lost on one ground.
Source: M. Okabe, K. Ito, "Color Universal Design", 2008."""

WIDTH: Final = 560
_HARMLESS: Final = re.compile(r"[A-Za-z0-9_ .,:%()-]{1,80}")


def finished(chart: Any) -> dict[str, Any]:
    """Return the specification of a chart, for a page that names its program and its colours itself."""
    found: dict[str, Any] = chart.to_dict()
    # The page tells the reader's program what it is; an address would be the only one in it.
    found.pop("$schema", None)
    # The page's own colours hold, in the dark too.
    found.pop("config", None)
    return found


def plain(text: str) -> str:
    """Return a title if it is harmless, else none that says anything: the page has it above the chart."""
    return text if _HARMLESS.fullmatch(text) else "value"


def finite(value: Any) -> Any:
    """Return a value that JSON has a word for; of a number that is none, None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
