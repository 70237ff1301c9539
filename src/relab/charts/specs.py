"""The common parts of chart specifications (Vega-Lite): colours, and the functions that make external data harmless.

External data may appear only as values in the data of a chart: Vega-Lite builds expressions from titles and from sort
lists, and does not quote them safely.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

PALETTE: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
"""Okabe and Ito's colours for all kinds of colour vision, without black and yellow, which are hard to see on a dark
or a light background.
Source: M. Okabe, K. Ito, "Color Universal Design", 2008."""

WIDTH: Final = 560
_HARMLESS: Final = re.compile(r"[A-Za-z0-9_ .,:%()-]{1,80}")


def finished(chart: Any) -> dict[str, Any]:
    """Return the specification of a chart without `$schema` and `config`, which the page provides itself."""
    found: dict[str, Any] = chart.to_dict()
    # The page names the specification's language itself; the schema would be the only URL in the page.
    found.pop("$schema", None)
    # The page's own colours apply, also in dark mode.
    found.pop("config", None)
    return found


def plain(text: str) -> str:
    """Return a title if it has only harmless characters, else `value`; the page shows the title above the chart."""
    return text if _HARMLESS.fullmatch(text) else "value"


def finite(value: Any) -> Any:
    """Return the value, or None for a float that JSON cannot represent (nan, infinity)."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
