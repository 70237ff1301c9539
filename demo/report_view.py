"""Show reports and figures of the tour in a terminal.

All text from a run, a tool or a report is rendered with `as_data`, without markup and control characters, so that a
tool's answer cannot change or control the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from demo.recorder import RunJson
from demo.scenarios import Scenario
from relab.rca.models import Category, Evidence, EvidenceKind, Finding, Report
from relab.telemetry.outcome_models import RunOutcome
from relab.telemetry.overview_models import MetricsOverview

MAX_QUOTE_LENGTH = 220
MAX_QUOTES = 2
EVIDENCE_WIDTH = 16
MAX_CATEGORY_LENGTH = max(len(category) for category in Category)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a played scenario.

    Attributes:
        scenario: the scenario.
        run: the analysed run.
        ended: the outcome of that run by the lab's rules.
        answered: the tool server's answers in that run, from its own journal.
        tally: the successes of the scenario's runs by version; None for a single run.
        report: the lab's report on the run.
        request_to_report_ms: the time from the request for the analysis to the report.
    """

    scenario: Scenario
    run: RunJson
    ended: RunOutcome
    answered: Sequence[str]
    tally: str | None
    report: Report
    request_to_report_ms: float


def as_data(text: str, style: str = "") -> Text:
    """Return a text that is rendered literally: control characters become visible, and markup is not interpreted."""
    shown = "".join(
        char if char.isprintable() else " " if char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )
    return Text(shown, style=style)


def clipped(text: str, longest: int = MAX_QUOTE_LENGTH) -> str:
    """Return a text of at most `longest` characters; a longer text is cut, with an ellipsis at the end."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def category_text(report: Report) -> Text:
    """Return the coloured category of a report: yellow for insufficient evidence, green without a failure, else red."""
    if report.insufficient_evidence:
        return as_data(f"{report.category.value}: not enough evidence", "bold yellow")
    if not report.hypotheses:
        return Text("no failure", style="bold green")
    return as_data(report.category.value, "bold red")


def report_panel(outcome: Outcome) -> Panel:
    """Return a report as a panel: the tool server's answers, category, place, quotations, summary, first action."""
    report = outcome.report
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("Tool server", _lines(outcome.answered))
    if outcome.tally is not None:
        grid.add_row("Runs", as_data(outcome.tally))
    grid.add_row("Category", _category_line(report))
    grid.add_row("Where", _place(outcome))
    grid.add_row("Evidence", _quotations(report))
    recovered = [finding for finding in report.findings if finding.recovered]
    if recovered:
        grid.add_row("Recovered", _recovered(recovered))
    if report.insufficient_reason:
        grid.add_row("Missing", as_data(report.insufficient_reason))
    grid.add_row("Summary", as_data(report.summary))
    action = report.action_items[0]
    grid.add_row(
        "First action",
        as_data(f"{action.title} ({action.priority}): ", "bold").append_text(as_data(action.description)),
    )
    title = as_data(f"{outcome.run['agent_name']} · run {outcome.run['run_id']} · {outcome.ended.label}")
    return Panel(grid, title=title, title_align="left", border_style=_border(report), box=box.ROUNDED)


def _lines(answered: Iterable[str]) -> Group:
    return Group(*(as_data(line) for line in answered))


def _border(report: Report) -> str:
    if report.insufficient_evidence:
        return "yellow"
    return "red" if report.hypotheses else "green"


def _category_line(report: Report) -> Text:
    line = category_text(report)
    if report.hypotheses:
        if report.detail is not None:
            line.append_text(as_data(f" ({clipped(report.detail, 40)})", "dim"))
        line.append(f"  confidence {report.hypotheses[0].confidence.value}", style="bold")
    return line


def _place(outcome: Outcome) -> Text:
    attribution = outcome.report.attribution
    if attribution is None:
        return Text("not known" if outcome.ended.is_failure else "nowhere: the run succeeded", style="dim")
    parts = []
    if attribution.step_id is not None:
        parts.append(f"step “{attribution.step_name or '?'}” [{attribution.step_id}]")
    if attribution.call_id is not None:
        parts.append(f"call of {attribution.tool_name or '?'} [{attribution.call_id}]")
    if attribution.agent_name is not None:
        parts.append(attribution.agent_name)
    return as_data(" · ".join(parts)).append(f"  confidence {attribution.confidence.value}", style="bold")


def cited(report: Report) -> list[Evidence]:
    """Return the evidence that the first hypothesis cites, or, without a hypothesis, that of all findings.

    Each item once.
    """
    claims = report.hypotheses[:1] or report.findings
    ids = dict.fromkeys(evidence_id for claim in claims for evidence_id in claim.evidence_ids)
    return [item for item in report.evidence_index if item.evidence_id in ids]


def _quotations(report: Report) -> RenderableType:
    items = cited(report)
    if not items:
        return Text("none", style="dim")
    lines = []
    for item in items[:MAX_QUOTES]:
        line = as_data(item.evidence_id, "cyan").append(f" {item.field}: ", style="dim")
        line.append_text(as_data(f"“{clipped(item.snippet)}”"))
        if item.kind is EvidenceKind.VERSION:
            line.append_text(_figures(item))
        lines.append(line)
    if len(items) > MAX_QUOTES:
        lines.append(Text(f"and {len(items) - MAX_QUOTES} more", style="dim"))
    return Group(*lines)


def _figures(item: Evidence) -> Text:
    """Return the figures of a comparison of versions, because its quotation contains only the version."""
    shown = (
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in item.attributes.items()
    )
    return as_data(" " + ", ".join(shown), "dim")


def _recovered(findings: Iterable[Finding]) -> Text:
    parts = [f"{finding.category.value} at {_named_place(finding)}" for finding in findings]
    return as_data(", ".join(parts), "green")


def _named_place(finding: Finding) -> str:
    if finding.call_id is not None:
        return f"{finding.tool_name or '?'} [{finding.call_id}]"
    return f"step “{finding.step_name or '?'}” [{finding.step_id}]" if finding.step_id is not None else "the run"


def summary_table(outcomes: Iterable[Outcome], disagreements: Sequence[str | None]) -> Table:
    """Return a table with one row per run; a mark shows whether the report agrees with the tool server.

    `disagreements` are, for each outcome, what is wrong with its report, or None.
    """
    table = Table(
        title="What happened, and what the lab found", title_justify="left", box=box.HORIZONTALS, show_edge=False
    )
    table.add_column("Run", no_wrap=True)
    # The only column without a fixed width, so that a narrow terminal shows all digits of the last one.
    table.add_column("What the tool server really did", overflow="fold", ratio=1)
    table.add_column("Category found", overflow="fold", width=MAX_CATEGORY_LENGTH + 2)
    table.add_column("Evidence cited", overflow="fold", width=EVIDENCE_WIDTH)
    table.add_column("ms to\nreport", justify="right", no_wrap=True)
    for outcome, disagreement in zip(outcomes, disagreements, strict=True):
        table.add_row(
            outcome.scenario.key,
            _lines(outcome.answered),
            _mark(disagreement).append_text(category_text(outcome.report)),
            _cited_ids(outcome.report),
            f"{outcome.request_to_report_ms:.0f}",
        )
    return table


def _mark(disagreement: str | None) -> Text:
    return Text("✓ ", style="bold green") if disagreement is None else Text("✗ ", style="bold red")


def _cited_ids(report: Report) -> Text:
    ids = [item.evidence_id for item in cited(report)]
    if not ids:
        return Text("none", style="dim")
    return as_data(ids[0]) if len(ids) == 1 else as_data(f"{clipped(ids[0], EVIDENCE_WIDTH)} and {len(ids) - 1} more")


def overview_panel(overview: MetricsOverview, hours: int) -> Panel:
    """Return a panel with the figures of `GET /metrics/overview` over `hours` hours."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    grid.add_row("Runs", str(overview.total_runs))
    grid.add_row("Success rate", "none ended" if overview.success_rate is None else f"{overview.success_rate:.2f} %")
    p95_ms = overview.p95_step_latency_ms
    grid.add_row("p95 step latency", "no steps" if p95_ms is None else f"{p95_ms:,.1f} ms")
    tools = ", ".join(f"{failing.tool} ({failing.count})" for failing in overview.top_failing_tools)
    grid.add_row("Failing tools", as_data(tools or "none"))
    cost = "-" if overview.total_cost_usd is None else f"${overview.total_cost_usd:.4f}"
    grid.add_row("Cost", f"{cost} (no model was called, so there is none)")
    return Panel(grid, title=f"GET /metrics/overview?hours={hours}", title_align="left", box=box.ROUNDED)


def next_steps(
    home: Path, lab: Path, *, responder: Path | None = None, has_rollout: bool = False, has_builds: bool = False
) -> Group:
    """Return the next steps for the user: commands for the data of this tour, ready to be copied.

    Args:
        home: the home of the lab of the first act.
        lab: the path of the `lab` program.
        responder: the home of the responder; None if the second act was not played.
        has_rollout: whether the third act was played.
        has_builds: whether the fourth act was played.
    """
    lines = [
        ("The data of this tour stay; to look around in them:", ""),
        (f"  export RELAB_HOME={home}", ""),
        (f"  {lab} agent-runs list", "   the runs; `show` and `timeline` for one of them"),
        (f"  {lab} serve", "   the lab again: http://127.0.0.1:8000/docs lists its API"),
    ]
    if responder is not None:
        lines.append((f"  RELAB_HOME={responder} {lab} incidents list", "   the incident; `show` for its timeline"))
    if has_rollout:
        lines.append((f"  {lab} rollout list", "   the rollout; `show` for its windows"))
    if has_builds:
        lines.append(
            (f"  {lab} builds list", "   the builds; `show ID --log` for the log of one, `lab rca build.ID` for a pass")
        )
        lines.append((f"  {lab} builds decisions", "   what the optimizer chose, and what it earned"))
    lines += [
        ("  README.md", "   a tour of five minutes, with a run of your own"),
        ("  demo/recorder.py", "   how a program records its runs, without any library of ours"),
    ]
    return Group(
        Text("Where to look next", style="bold"),
        *(as_data(text).append_text(as_data(note, "dim")) for text, note in lines),
    )
