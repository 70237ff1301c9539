"""Print the evaluation's tables. Text from runs and servers is printed as plain text, never as markup."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evals.real_summary import Alarms, Group, Proportion, Summary

MAX_FAILURES_SHOWN = 20


def print_summary(console: Console, summary: Summary) -> None:
    """Print tables of posted runs, evidence, categories and false alarms, and all failures."""
    console.print(_intake_table(summary.groups))
    console.print(_category_table(summary.groups))
    if any(alarms.hypotheses.n for alarms in summary.alarms):
        console.print(_alarm_table(summary.alarms))
    for reason, count in summary.rejections.items():
        console.print(Text(f"Rejected, {count} runs: {reason}"))
    runs, accepted = (sum(getattr(group, field) for group in summary.groups) for field in ("runs", "accepted"))
    evidence, verbatim = (sum(getattr(group, field) for group in summary.groups) for field in ("evidence", "verbatim"))
    console.print(Text(f"{accepted} of {runs} posted runs accepted, {verbatim} of {evidence} evidence items verbatim"))
    console.print(Text(", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in summary.seconds.items())))
    for failure in summary.failures[:MAX_FAILURES_SHOWN]:
        console.print(Text(f"FAILED {failure}", style="red"))
    if len(summary.failures) > MAX_FAILURES_SHOWN:
        console.print(Text(f"… and {len(summary.failures) - MAX_FAILURES_SHOWN} more; see --json.", style="red"))
    verdict = "ok: nothing crashed, every rejection has a reason, every quotation is verbatim"
    console.print(Text(verdict if summary.ok else f"failed: {len(summary.failures)} problems", style="bold"))


def _intake_table(groups: list[Group]) -> Table:
    table = Table(title="Real runs through the public API")
    for heading in ("data set", "agent", "status"):
        table.add_column(heading, overflow="fold")
    figures = (
        "n",
        "accepted",
        "rejected",
        "crashed",
        "findings / run",
        "evidence",
        "verbatim",
        "citations",
        "median s",
    )
    for heading in figures:
        table.add_column(heading, justify="right")
    for group in groups:
        table.add_row(
            Text(group.dataset),
            Text(group.agent),
            group.status,
            str(group.runs),
            str(group.accepted),
            str(group.rejected),
            str(group.crashed),
            _decimal(group.findings_per_run),
            str(group.evidence),
            f"{100 * group.verbatim / group.evidence:.1f} %" if group.evidence else "-",
            str(group.citations),
            _decimal(group.analysis_median_s),
        )
    return table


def _category_table(groups: list[Group]) -> Table:
    table = Table(title="Reports by category")
    table.add_column("category")
    for group in groups:
        table.add_column(Text(f"{group.dataset}\n{group.agent}\n{group.status}"), justify="right")
    names = dict.fromkeys(name for group in groups for name in group.categories)
    for name in names:
        table.add_row(Text(name), *(str(group.categories.get(name, 0)) for group in groups))
    table.add_section()
    for label, field in (
        ("reports", "reports"),
        ("insufficient evidence", "insufficient"),
        ("with a hypothesis", "with_hypothesis"),
        ("with an attribution", "with_attribution"),
    ):
        table.add_row(label, *(str(getattr(group, field)) for group in groups))
    return table


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _share(value: Proportion) -> str:
    if value.low is None or value.high is None:
        return f"{value.hits} of {value.n}"
    return f"{value.hits} of {value.n} ({100 * value.low:.1f} to {100 * value.high:.1f} %)"


def _alarm_table(groups: list[Alarms]) -> Table:
    """Return the table of claims for each group of runs; groups for which the rules allow no claim get no interval."""
    table = Table(
        title="Reports of tau-bench runs that claim a problem (Wilson interval, 95 %)",
        caption="Passed runs have no claims by construction. Reported as failed, every claim about them is a false alarm.",
    )
    table.add_column("runs")
    for heading in ("a hypothesis", "medium or high", "unrecovered finding, medium or high"):
        table.add_column(heading, justify="right")
    for group in groups:
        figures = (group.hypotheses, group.strong_hypotheses, group.strong_findings)
        shown = [f"{value.hits} of {value.n}" if group.by_construction else _share(value) for value in figures]
        table.add_row(group.group, *shown)
    return table
