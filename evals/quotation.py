"""Check independently that a report keeps its guarantees: verbatim quotations, and citations of existing evidence.

It compares the report from the API with the posted body. It shares no code with the analyser, so that a bug of the
analyser cannot hide here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from evals.datasets.source import Body

Report = dict[str, Any]

_PARTS = {
    "step": ("steps", "step_id"),
    "tool_call": ("tool_calls", "call_id"),
    "guardrail_event": ("guardrail_events", "event_id"),
}
_PASSING = "passing_run"
_WHOLE_RUN = frozenset({"run", "version"})


@dataclass
class Check:
    """The result of the check of one report.

    Attributes:
        evidence: number of checked evidence items.
        verbatim: number of evidence items whose snippet occurs verbatim in the posted run.
        citations: number of checked citations.
        problems: one sentence for each violated guarantee.
    """

    evidence: int = 0
    verbatim: int = 0
    citations: int = 0
    problems: list[str] = field(default_factory=list)


def check_report(body: Body, report: Report, passing: Mapping[str, Body] = MappingProxyType({})) -> Check:
    """Check every evidence item, citation and location of a report against the posted body of its run.

    `passing` are the bodies of the runs that it was compared with, by run id.
    """
    check = Check()
    for item in report["evidence_index"]:
        check.evidence += 1
        problem = _quotation_problem(passing.get(item["ref_id"], {}) if item["kind"] == _PASSING else body, item)
        if problem is None:
            check.verbatim += 1
        else:
            check.problems.append(f"{item['evidence_id']}: {problem}")
    known = [item["evidence_id"] for item in report["evidence_index"]]
    if len(set(known)) != len(known):
        check.problems.append("two evidence items share an id")
    for name, claim in _claims(report):
        check.citations += len(claim["evidence_ids"])
        if not claim["evidence_ids"]:
            check.problems.append(f"{name} cites nothing")
        check.problems.extend(
            f"{name} cites {cited}, which is not in the report" for cited in claim["evidence_ids"] if cited not in known
        )
        check.problems.extend(_location_problems(body, name, claim))
    if report["summary"].startswith("The run succeeded") and report["hypotheses"]:
        check.problems.append("a run that succeeded has a hypothesis of why it failed")
    return check


def _claims(report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, finding in enumerate(report["findings"]):
        yield f"findings.{index}", finding
    for index, hypothesis in enumerate(report["hypotheses"]):
        yield f"hypotheses.{index}", hypothesis
    for index, candidate in enumerate(report.get("candidates", [])):
        yield f"candidates.{index}", candidate
    for index, difference in enumerate((report.get("passing") or {}).get("differences", [])):
        yield f"passing.differences.{index}", difference
    for index, step in enumerate((report.get("judge") or {}).get("steps", [])):
        yield f"judge.steps.{index}", step
    if report["attribution"] is not None:
        yield "attribution", report["attribution"]


def _location_problems(body: Body, name: str, claim: dict[str, Any]) -> Iterator[str]:
    for collection, key in (("steps", "step_id"), ("tool_calls", "call_id")):
        located = claim.get(key)
        if located is not None and all(part[key] != located for part in body[collection]):
            yield f"{name} points at {key} {located!r}, which the run does not have"


def _quotation_problem(body: Body, item: dict[str, Any]) -> str | None:
    """Return the problem of one quotation, or None if it is verbatim."""
    kind, ref_id = item["kind"], item["ref_id"]
    if kind == _PASSING:
        kind, ref_id = (
            ("tool_call", item["attributes"]["call_id"]) if "call_id" in item["attributes"] else ("run", ref_id)
        )
    source = _quoted_object(body, kind, ref_id)
    if source is None:
        return f"there is no {item['kind']} {item['ref_id']!r} in the run"
    value = source.get(item["field"])
    if value is None:
        return f"the {item['kind']} has no field {item['field']!r}"
    snippet = item["snippet"]
    if not snippet:
        return "the snippet is empty"
    if all(snippet not in text for text in _texts(value)):
        return f"{snippet[:80]!r} does not stand in {item['field']!r}"
    return None


def _quoted_object(body: Body, kind: str, ref_id: str) -> dict[str, Any] | None:
    if kind in _WHOLE_RUN:
        return body if body.get("run_id") == ref_id else None
    collection, key = _PARTS[kind]
    return next((part for part in body.get(collection, []) if part[key] == ref_id), None)


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts that may be quoted from a field: the string itself, else each usual form of its JSON."""
    if isinstance(value, str):
        yield value
        return
    for separators in ((", ", ": "), (",", ":")):
        for sort_keys in (False, True):
            yield json.dumps(value, ensure_ascii=False, separators=separators, sort_keys=sort_keys)
