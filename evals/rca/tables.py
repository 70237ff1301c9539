"""Print the figures of the evaluation of attribution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from evals.rca.figures import Bin, Figure
from evals.rca.judging import JudgeMeasured
from evals.rca.measuring import Measured


def print_measured(console: Console, measured: Measured) -> None:
    """Print all tables: the place of the mistake, spans, control figures, reliability and cost."""
    for title, rows in measured.steps:
        console.print(_figures(f"{title}: the first mistake", rows))
    console.print(_figures("TRAIL GAIA: located spans", measured.spans))
    for method, value in measured.macro.items():
        console.print(
            f"TRAIL GAIA: mean F1 of span and category over the labelled categories, {method}: {100 * value:.1f}"
        )
    for title, rows in measured.curves:
        console.print(_figures(f"{title}: learning curve, held out", rows, first="trained on"))
    console.print(_figures("Guarantees and controls", measured.controls, first="figure"))
    console.print(_figures("Differences from passing trials", measured.passing, first="set"))
    for title, bins, errors in measured.reliability:
        console.print(_reliability(title, bins, errors))
    cost = Table(title="Cost of one analysis in this process (processor time)")
    for heading in ("set", "n", "median ms", "95 % ms", "max ms", "max KiB (each tenth run)"):
        cost.add_column(heading)
    for name, row in measured.cost:
        cost.add_row(name, *(f"{value:,.0f}" if index in {0, 4} else f"{value:.1f}" for index, value in enumerate(row)))
    console.print(cost)


def print_steps(console: Console, title: str, rows: Mapping[str, Mapping[str, Figure]]) -> None:
    """Print the figures of the first mistake for one set."""
    console.print(_figures(f"{title}: the first mistake", rows))


def print_judged(console: Console, measured: JudgeMeasured) -> None:
    """Print the figures and the cost of the judge beside the local ranking."""
    for title, rows in measured.steps:
        console.print(_figures(f"{title}: the first mistake", rows))
    cost = Table(title="Cost of the judge")
    for heading in ("set", "runs", "named a step", "calls", "tokens", "USD", "no step", "dropped"):
        cost.add_column(heading)
    for name, row in measured.cost.items():
        usd = "not known" if row.usd is None else f"{row.usd:.2f}"
        counts = (
            "; ".join(f"{count} x {said}" for said, count in part.items()) for part in (row.fallbacks, row.dropped)
        )
        cost.add_row(name, str(row.runs), str(row.named), str(row.calls), f"{row.tokens:,}", usd, *counts)
    console.print(cost)


def _figures(title: str, rows: Mapping[str, Mapping[str, Figure]], *, first: str = "method") -> Table:
    table = Table(title=f"{title}, in %, with 95 % intervals by bootstrap over groups")
    table.add_column(first)
    table.add_column("n")
    for heading in next(iter(rows.values())):
        table.add_column(heading)
    for name, figures in rows.items():
        count = max(figure.n for figure in figures.values())
        table.add_row(name, str(count), *(_shown(figure, count) for figure in figures.values()))
    return table


def _shown(figure: Figure, count: int) -> str:
    """Return a share and its interval in percent: `38.1 (29 to 47)`; with its own n if that is not `count`."""
    if math.isnan(figure.value):
        return "-"
    own = "" if figure.n == count else f", n = {figure.n}"
    return f"{100 * figure.value:.1f} ({100 * figure.low:.0f} to {100 * figure.high:.0f}{own})"


def _reliability(title: str, bins: Sequence[Bin], errors: tuple[float, float, float]) -> Table:
    table = Table(
        title=f"{title}: reliability of stated probabilities (calibration error {errors[0]:.3f}, of five equal parts {errors[1]:.3f}, "
        f"root mean square without chance {errors[2]:.3f})"
    )
    for heading in ("stated", "n", "mean stated", "right"):
        table.add_column(heading)
    for row in bins:
        table.add_row(f"{row.low:.1f} to {row.high:.1f}", str(row.n), f"{row.stated:.2f}", f"{row.right:.2f}")
    return table
