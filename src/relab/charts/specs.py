"""The common parts of chart specifications (Vega-Lite): colours, encodings, and functions that make titles safe.

External texts may appear only in the data of a chart, not in its titles or sort lists. Vega-Lite builds expressions from
titles and sort lists, and does not quote them safely.
"""

from __future__ import annotations

import functools
import math
import re
import threading
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

PALETTE: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
"""Okabe and Ito's colours for all kinds of colour vision, without black and yellow, which are hard to see on a dark
or a light background.
Source: M. Okabe, K. Ito, "Color Universal Design", 2008."""

WIDTH: Final = 560
_HARMLESS: Final = re.compile(r"[A-Za-z0-9_ .,:%()-]{1,80}")

_drawing: Final = threading.RLock()

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def unchecked(draw: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate `draw` so that Altair builds the chart without validating it against the schema of Vega-Lite.

    The validation takes ten times as long as drawing the chart. The test suite validates each chart instead.
    """

    @functools.wraps(draw)
    def drawing(*args: Arguments.args, **more: Arguments.kwargs) -> Result:
        from altair.utils.schemapi import debug_mode  # noqa: PLC0415 only pages with charts need Altair

        # `debug_mode` sets a global of the module: of two threads, the first to end would switch the check on again.
        with _drawing, debug_mode(False):
            return draw(*args, **more)

    return drawing


def finished(chart: Any) -> dict[str, Any]:
    """Return the Vega-Lite specification of an Altair chart, without the fields `$schema` and `config`.

    The page with the charts sets both fields for all of its charts.
    """
    found: dict[str, Any] = chart.to_dict(validate=False)
    # The page names the specification's language itself; the schema would be the only URL in the page.
    found.pop("$schema", None)
    # The page's own colours apply, also in dark mode.
    found.pop("config", None)
    return found


def nominal(field: str, **more: Any) -> dict[str, Any]:
    """Return a part of a Vega-Lite specification: the encoding of a field with names (type `nominal`).

    Args:
        field: the name of the field.
        more: further properties of the encoding.
    """
    return {"field": field, "type": "nominal", **more}


def quantitative(field: str, **more: Any) -> dict[str, Any]:
    """Return a part of a Vega-Lite specification: the encoding of a field with numbers (type `quantitative`).

    Args:
        field: the name of the field.
        more: further properties of the encoding.
    """
    return {"field": field, "type": "quantitative", **more}


def plain(text: str) -> str:
    """Return `text` if it is safe as the title of a chart, otherwise the word `value`.

    A safe title has 1 to 80 characters: ASCII letters, digits, spaces and some punctuation.
    """
    return text if _HARMLESS.fullmatch(text) else "value"


def finite(value: Any) -> Any:
    """Return the value unchanged, or None for a float that JSON cannot represent (nan, infinity)."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
