"""Print the figures of an evaluation of responders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relab.cli.output import plain, print_table

_RATES = {
    "detected": "detected",
    "diagnosis_at_1": "cause ranked first",
    "diagnosis_at_3": "cause among the first three",
    "mitigated": "mitigated",
    "mitigated_though_wrong": "mitigated with a wrong cause",
    "mitigated_and_closed": "mitigated and closed by the responder",
    "escalated": "escalated to a person",
    "escalated_harmless": "escalated without harm",
    "settled_harmless": "mitigated or escalated, without harm",
    "all_named": "each of several causes ranked first once",
    "announced": "no outage over 60 s without a notice",
}
_ALARMS = {
    "all": "false alarms per 960 polls",
    "healthy_episodes": "- in episodes without a fault",
    "noisy_episodes": "- in these episodes, with noise",
}
_TIMES = {
    "time_to_detect_polls": "polls to detect",
    "time_to_detect_s": "seconds to detect",
    "detection_to_mitigation_s": "seconds from detection to mitigation",
    "time_to_mitigate_s": "seconds to mitigate",
}
_SUMS = {
    "actions": "actions",
    "harmful_actions": "harmful actions",
    "harm_user_error_s": "harm, user-error-seconds",
    "cost_usd": "cost, USD",
}
_COUNTED = {"tokens": "model tokens"}
"""Sums that only some responders report."""


def show_report(found: Mapping[str, Any]) -> None:
    """Print the figures of an evaluation as tables; `found` has the figures, as `lab incidents eval --json` prints them."""
    responders = dict(found["responders"])
    if found["unknown"] is not None:
        responders[f"{found['measured']}, without a runbook for the cause"] = found["unknown"]
    print_table("Responders", ("figure", *responders), _rows(responders))
    for other, figures in found["compared"].items():
        _show_compared(found["measured"], other, figures)
    for title, first in (("by_kind", "kind of episode"), ("by_subject", "subject")):
        if found[title]:
            print_table(
                f"{found['measured']} by {first}",
                (first, "detected", "cause ranked first", "mitigated"),
                (
                    [name, *("/".join(map(str, counts)) for counts in row.values())]
                    for name, row in found[title].items()
                ),
            )
    for run in found["runs"]:
        print(f"run: {plain(run)}")


_RATE_FORM: Final = "{rate:.0%} ({hits}/{of}; {low:.0%}-{high:.0%})"
_ALARM_FORM: Final = "{per_960_polls:.2f} ({alarms} in {polls:,}; {low:.2f}-{high:.2f})"
_TIME_FORM: Final = "{median:.1f} (90 % {p90:.1f}, most {most:.1f}; n = {of})"


def _rows(responders: Mapping[str, Mapping[str, Any]]) -> list[list[object]]:
    def row(title: str, cell: Any) -> list[object]:
        return [title, *(cell(figures) for figures in responders.values())]

    rows = [
        row("episodes", lambda figures: figures["episodes"]),
        row("- without a result", lambda figures: figures["without_figures"]),
        row("- with a fault", lambda figures: figures["with_something_wrong"]),
    ]
    rows += [
        row(title, lambda figures, name=name: _cell(_RATE_FORM, figures["rates"].get(name)))
        for name, title in _RATES.items()
    ]
    rows.append(row("right repairs judged failed", lambda figures: _cell(_RATE_FORM, figures["judged_failed"])))
    rows += [
        row(title, lambda figures, name=name: _cell(_ALARM_FORM, figures["false_alarms"].get(name)))
        for name, title in _ALARMS.items()
    ]
    rows += [
        row(title, lambda figures, name=name: _cell(_TIME_FORM, figures["times"].get(name)))
        for name, title in _TIMES.items()
    ]
    rows += [row(title, lambda figures, name=name: f"{figures['sums'][name]:g}") for name, title in _SUMS.items()]
    rows += [
        row(title, lambda figures, name=name: figures["sums"].get(name))
        for name, title in _COUNTED.items()
        if any(name in figures["sums"] for figures in responders.values())
    ]
    return rows


def _cell(form: str, found: Mapping[str, Any] | None) -> str | None:
    return None if found is None else form.format(**found)


def _show_compared(measured: str, other: str, found: Mapping[str, Any]) -> None:
    rows = []
    for name, title in (
        ("harm_user_error_s", "harm, user-error-seconds"),
        ("mitigated", "mitigated"),
        ("harmful_actions", "harmful actions"),
    ):
        if name in found:
            item = found[name]
            ends = _ends(item)
            rows.append(
                [title, _number(item["own"]), _number(item["other"]), _number(item["difference"]), ends, item["pairs"]]
            )
    columns = ("mean per episode", measured, other, "difference", "95 %", "pairs")
    print_table(f"{measured} compared with {other}, same episodes", columns, rows)
    ratio = found["harm_ratio"]
    print(f"harm of {plain(measured)} per unit of {plain(other)}: {_number(ratio['value'])} ({_ends(ratio)})")


def _ends(found: Mapping[str, Any]) -> str:
    if found["low"] is None and found["high"] is None:
        # Too few pairs, or pairs that all differ by the same amount, give no interval.
        return "unknown"
    return f"{_number(found['low'])} to {_number(found['high'])}"


def _number(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:.3g}"
