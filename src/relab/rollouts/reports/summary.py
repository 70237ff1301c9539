"""Write the summary of a rollout for a terminal, with a limited number of lines.

Its sections are those of the summary of LabOps, an older tool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relab.core.control_characters import escape_text
from relab.rollouts.models import RolloutJudgement
from relab.rollouts.plans.models import Plan
from relab.rollouts.record import RolloutRecord
from relab.rollouts.reports.experiment import evidence_inputs, evidence_results
from relab.rollouts.reports.wording import (
    UNKNOWN,
    decision,
    interval,
    is_applied,
    is_decided,
    next_steps,
    percent,
    reason,
)
from relab.stats.verdicts import Verdict

_RULE: Final = "=" * 30
_WIDTH: Final = 160
_REASON_WIDTH: Final = 600
"""Greatest length of the reason and of a next step, which end with the remedy of an error."""
_NO_CHANGE: Final = "# the flags were never read, so there is nothing to restore"


@dataclass(slots=True)
class _SummarySection:
    """A section of the summary.

    Attributes:
        title: its heading.
        lines: its lines.
        least: number of lines that a shortened section keeps.
    """

    title: str
    lines: list[str]
    least: int


def summary_text(record: RolloutRecord) -> str:
    """Return the summary of a rollout, shortened to the plan's `max_lines` lines if possible.

    Details of the section RESULTS are left out first, then details of the other sections. The section ROLLBACK is
    always complete.
    """
    sections = [
        _SummarySection("INPUTS", _inputs(record), 0),
        _SummarySection("RESULTS", _results(record), 4),
        _SummarySection("VERDICT", _verdict(record), 3),
        _SummarySection("NEXT STEP", [_line(step, _REASON_WIDTH) for step in next_steps(record)], 1),
        _SummarySection("APPLY COMMAND", _command(record.apply_command, "# the flags were never read"), 0),
        _SummarySection("ROLLBACK", _command(record.rollback_command, _NO_CHANGE), 10_000),
    ]
    head = [_RULE, "LABOPS AGENT V1 - EXECUTION SUMMARY", _RULE, ""]
    _cut(sections, len(head), record)
    lines = head
    for section in sections:
        lines += [section.title, *section.lines, ""]
    # Messages may quote names from the target's answers.
    return escape_text("\n".join(lines[:-1]) + "\n")


def _cut(sections: list[_SummarySection], head: int, record: RolloutRecord) -> None:
    """Shorten sections of the summary until it has at most the plan's `max_lines` lines, if that is possible.

    `head` is the number of lines before the sections.
    """

    def too_many() -> int:
        # Each section has a title and, but for the last one, an empty line.
        length = head + sum(len(section.lines) + 2 for section in sections) - 1
        return length - record.plan.report.max_lines

    for name in ("RESULTS", "NEXT STEP", "INPUTS", "APPLY COMMAND", "VERDICT"):
        section = next(section for section in sections if section.title == name)
        if too_many() <= 0:
            return
        # A command that is cut cannot be run, so it is left out as a whole.
        whole = name == "APPLY COMMAND"
        kept = section.least if whole else max(section.least, len(section.lines) - too_many() - 1)
        if kept + 1 < len(section.lines):
            dropped = len(section.lines) - kept
            section.lines = [
                *section.lines[:kept],
                f"- ({dropped} lines left out: lab rollout show {record.rollout_id})",
            ]


def _inputs(record: RolloutRecord) -> list[str]:
    plan = record.plan
    if record.experiment is not None:
        return [*evidence_inputs(record.experiment), _line(f"Target: {record.target}, Rollout: {record.rollout_id}")]
    measured = plan.experiment
    load = "own traffic" if plan.subject.live else f"{measured.qps:g}"
    lines = [f"- QPS: {load}, Window: {measured.window_sec:g}s, Rounds: {_rounds(plan)}"]
    if plan.subject.flags.kind == "service":
        lines += [
            f"- Flow: {measured.flow_policy}, Target P95: {measured.target_p95:g}ms",
            f"- Routing: {measured.routing_mode}, TopK Threshold: {measured.topk_threshold}",
        ]
    lines += [
        f"- Order: {measured.order.value}, Warm-up: {measured.warmup_sec:g}s, Policy: {plan.policy.value}",
        _line(f"Target: {record.target}, Rollout: {record.rollout_id}"),
    ]
    if record.health is not None:
        state = "ok" if record.health.ok else f"unhealthy ({record.health.reason})"
        lines.append(_line(f"Health: {state}"))
    return lines


def _rounds(plan: Plan) -> str:
    measured = plan.experiment
    if measured.rounds == "auto":
        return f"auto ({measured.min_rounds} to {measured.max_rounds})"
    return str(measured.rounds)


def _results(record: RolloutRecord) -> list[str]:
    if record.experiment is not None:
        return evidence_results(record.experiment)
    found = record.judgement
    judged = f"Δ{record.plan.judged_figure}"
    if found is None:
        return [
            f"- {judged}: {UNKNOWN}",
            f"- ΔQPS: {UNKNOWN}",
            f"- Error Rate: {UNKNOWN}",
            f"- AB Imbalance: {UNKNOWN}",
        ]
    effect = found.delta_p95
    change = f"{percent(effect.estimate_pct)} ({interval(effect)})" if effect else UNKNOWN
    at_most = percent(found.error_rate_upper_pct, digits=2, signed=False)
    deviation, detectable = percent(found.window_sd_pct, signed=False), percent(found.minimum_detectable_effect_pct)
    lines = [
        f"- {judged}: {change}",
        f"- ΔQPS: {percent(found.delta_qps_pct)}",
        f"- Error Rate: {percent(found.error_rate_pct, digits=2, signed=False)} (at most {at_most})",
        f"- AB Imbalance: {percent(found.ab_imbalance_pct, signed=False)}",
        f"- Windows: {', '.join(f'{arm.value} {count}' for arm, count in sorted(found.windows.items())) or 'none'}",
        f"- Deviation of rounds: {deviation}, minimum detectable effect: {detectable}",
        f"- Identical arms pass this procedure in: {_share(found.false_pass_rate)}",
    ]
    if found.early_stop is not None:
        lines.append(_line(f"Early stop: {found.early_stop}"))
    return [*lines, *_details(found)]


def _details(found: RolloutJudgement) -> list[str]:
    lines = [_line(f"Warning: {warning}") for warning in found.warnings]
    lines += [_line(f"Problem: {problem}") for problem in found.problems]
    if found.factors is not None:
        for name in ("flow", "routing", "interaction"):
            effect = getattr(found.factors, name)
            lines.append(f"- {name.capitalize()}: {percent(effect.estimate_pct)} ({interval(effect)})")
        lines.append(_line(found.factors.attribution))
    lines += [
        _line(f"Route {route.name}: ΔP95 {percent(route.estimate_pct)} ({interval(route)})") for route in found.routes
    ]
    return lines


def _share(rate: float | None) -> str:
    return UNKNOWN if rate is None else f"{100 * rate:.2f}% of cases"


def _verdict(record: RolloutRecord) -> list[str]:
    lines = [
        f"- Decision: {decision(record)}",
        _line(f"Reason: {reason(record)}", _REASON_WIDTH),
        f"- Flags Applied: {'YES' if is_applied(record) else 'NO'}",
    ]
    if record.application is not None and is_decided(record):
        lines.append(_line(record.application.message))
    elif record.judgement is not None and record.judgement.verdict is Verdict.EDGE:
        lines.append("- An EDGE is never applied by itself")
    if not is_applied(record) and record.flags_restored is not None:
        lines.append(f"- Flags restored: {'YES' if record.flags_restored else 'NO (see NEXT STEP)'}")
    return lines


def _command(command: str | None, absent: str) -> list[str]:
    return absent.splitlines() if command is None else command.splitlines()


def _line(text: str, width: int = _WIDTH) -> str:
    """Return a text as one line of a section.

    Line ends become spaces, and a text of more than `width` characters is cut and ends with an ellipsis.
    """
    flat = " ".join(text.split())
    return "- " + (flat if len(flat) <= width else flat[: width - 1] + "…")
