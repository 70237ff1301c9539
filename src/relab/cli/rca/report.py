"""Print the report of a root cause analysis to a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relab.cli.output import plain, plain_lines, stdout_console
from relab.rca.models import AttributionBasis, Report, SentenceJudgement

MAX_SHOWN = 20
_STYLES = {"high": "bold red", "medium": "yellow", "low": "dim"}


def print_report(agent_run_id: str, report: Report) -> None:
    """Print the whole report of an analysis: the cause of the failure, where it began, the evidence, what to change.

    `agent_run_id` is the id of the analysed run.
    """
    console = stdout_console()
    cause = report.category if report.detail is None else f"{report.category} ({report.detail})"
    console.print(Text.assemble(("Run ", "bold"), plain(agent_run_id), (": ", "bold"), (cause, "bold cyan")))
    console.print(Text(plain(report.summary)))
    if report.insufficient_evidence:
        console.print(Text(f"Insufficient evidence: {plain(report.insufficient_reason)}", style="yellow"))
    if report.attribution is not None:
        place = report.attribution
        where = [
            f"{kind} {plain(name or 'without a name')}{f' [{plain(ref)}]' if ref is not None else ''}"
            for kind, name, ref in (
                ("agent", place.agent_name, None),
                ("call of", place.tool_name, place.call_id),
                ("step", place.step_name, place.step_id if place.step_name else None),
            )
            if name is not None or ref is not None
        ]
        sure = "ranked guess" if place.basis is AttributionBasis.RANKED_GUESS else f"{place.confidence} confidence"
        console.print(Text(f"Where: {', '.join(where)} ({sure})"))
    _print_candidates(report, console)
    if report.passing is not None:
        console.print(Text(f"Compared with {len(report.passing.run_ids)} runs that succeeded:", style="bold"))
        for difference in report.passing.differences:
            console.print(Text(f"  {plain(difference.sentence)}"))
            console.print(Text(f"   evidence: {_citations(report, difference.evidence_ids)}", style="dim"))
    if report.judge is not None:
        console.print(Text(plain(report.judge.sentence())))
        for step in report.judge.steps:
            console.print(Text(f"   evidence: {_citations(report, step.evidence_ids)}", style="dim"))
    _print_hypotheses(report, console)
    for found in report.behaviours:
        console.print(Text(f"Behaviour seen: {plain(found.line())} ({found.behaviour})"))
        if found.reason is not None:
            console.print(Text(f"   reason of the model: {plain(found.reason)}"))
        console.print(Text(f"   evidence: {_citations(report, found.evidence_ids)}", style="dim"))
    if report.sentences is not None:
        _print_sentences(report.sentences, console)
    _print_evidence(report, console)
    console.print(Text("What to change:", style="bold"))
    for item in report.action_items:
        console.print(Text(f"  [{item.priority}] {plain(item.title)}: {plain(item.description)}"))
        if item.evidence_ids:
            console.print(Text(f"    evidence: {_citations(report, item.evidence_ids)}", style="dim"))


def _print_sentences(judgement: SentenceJudgement, console: Console) -> None:
    for line in judgement.reasons():
        console.print(Text(f"Not judged: {plain(line)}"))
    if judgement.judged:
        console.print(Text(f"Sentences judged{plain(judgement.cost_line())}", style="dim"))
    if judgement.dropped:
        console.print(Text(f"Dropped: {judgement.dropped_line()}", style="dim"))


def _print_candidates(report: Report, console: Console) -> None:
    if not report.candidates:
        return
    console.print(Text("Steps that may have gone wrong first (ranked guess):", style="bold"))
    for rank, candidate in enumerate(report.candidates, 1):
        agent = "" if candidate.agent_name is None else f" of {plain(candidate.agent_name)}"
        console.print(Text(f"  {rank}. {plain(candidate.step_name)} [{plain(candidate.step_id)}]{agent}"))
        console.print(Text(f"     why: {plain('; '.join(candidate.reasons))}"))
    for gap in report.gaps:
        console.print(Text(f"  Steps may be missing: {plain(gap)}."))


def _print_hypotheses(report: Report, console: Console) -> None:
    for rank, hypothesis in enumerate(report.hypotheses, 1):
        console.print(
            Text.assemble(
                (f"{rank}. {plain(hypothesis.title)} ", "bold"),
                (f"({hypothesis.confidence})", _STYLES[hypothesis.confidence]),
            )
        )
        console.print(Text(f"   {plain(hypothesis.description)}"))
        console.print(Text(f"   evidence: {_citations(report, hypothesis.evidence_ids)}", style="dim"))
        for step in hypothesis.verification_steps:
            console.print(Text(f"   to verify: {plain(step)}", style="dim"))


def _print_evidence(report: Report, console: Console) -> None:
    if not report.evidence_index:
        return
    table = Table(title="Evidence, quoted from the run", title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for column in ("part of the run", "field", "quotation"):
        table.add_column(column, overflow="fold")
    shown = report.evidence_index[:MAX_SHOWN]
    for item in shown:
        figures = [f"{key} {plain(value)}" for key, value in item.attributes.items() if value is not None]
        table.add_row(
            Text(f"{plain(item.title)} [{plain(item.evidence_id)}]"),
            Text(plain(item.field)),
            Text.assemble(plain_lines(item.snippet), ("\n" + ", ".join(figures) if figures else "", "dim")),
        )
    console.print(table)
    if len(shown) < len(report.evidence_index):
        console.print(f"{len(report.evidence_index) - len(shown)} more pieces of evidence with --json.")


def _citations(report: Report, evidence_ids: tuple[str, ...]) -> str:
    """Return the cited evidence as text: for each item its title, its field and, in brackets, its id."""
    index = {item.evidence_id: item for item in report.evidence_index}
    cited = (index[evidence_id] for evidence_id in evidence_ids)
    return ", ".join(f"{plain(item.title)}, {plain(item.field)} [{plain(item.evidence_id)}]" for item in cited)
