"""The key of a failure: failures that share a cause have the same key. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final

from relab.core.error_templates import MAX_CAUSE_CHARS, cause_of
from relab.core.masking import mask_secrets
from relab.rca.models import Attribution, AttributionBasis, Category, Evidence, Finding, Report
from relab.telemetry.models import AgentRun
from relab.telemetry.trial_runs import is_trial

KEY_CHARS: Final = 24
_ERROR_FIELDS: Final = frozenset({"error_message", "message", "error_class", "error_type", "status_code"})
_BY_TEXT: Final = frozenset({Category.UNKNOWN, Category.TOOL_SCHEMA_MISMATCH, Category.TOOL_PERMISSION})
"""Categories in which the text of the error distinguishes causes. In other categories the text names the query, the quota or the time of
one run, so the key has only category, detail and place."""
_QUOTED: Final = re.compile(r"(['\"`])(?!(?:[A-Za-z_][A-Za-z_.]{0,60})\1)[^'\"`\n]{1,300}\1")
"""A quoted value. Quoted names that consist of letters, such as the name of a field, are not matched."""


@dataclass(frozen=True, slots=True)
class FailureKey:
    """The key by which failed runs are grouped into clusters.

    Attributes:
        key: 24 hexadecimal digits; equal for failures that share a cause.
        line: a line of at most 300 characters that shows the cause, without secrets.
    """

    key: str
    line: str


def key_of(report: Report, agent_name: str) -> FailureKey:
    """Return the cluster key (equal for equal causes) of a report's failure; `agent_name` is the run's agent.

    The key is a digest of the values in the first case that applies:

    - The report names a cause. Values: the category of the cause, its detail (the finer kind within the category), and
      its place. In the categories whose causes only the error text distinguishes (`_BY_TEXT`), also the error text.
    - No error shows the place of the failure, and the report guesses a step (a ranked guess). Values: the agent of the
      run, the guessed agent or step, and the first reason for the guess.
    - Otherwise: the category, the place of the failure, and the first error text in the evidence.

    A place is a tool; without a tool, the agent of the run and the step. Ids, numbers and most quoted values are left out
    of error texts.
    """
    is_explained = bool(report.hypotheses) and not report.insufficient_evidence
    place = _place_of_cause(report) if is_explained else report.attribution
    tool = place.tool_name if place is not None else None
    where = tool or f"{agent_name}\0{(place.step_name if place is not None else None) or ''}"
    index = {item.evidence_id: item for item in report.evidence_index}
    if is_explained:
        shown = next(
            (index[each] for each in report.hypotheses[0].evidence_ids if index[each].field in _ERROR_FIELDS), None
        )
        said = _text(shown) if shown is not None else ""
        # Without its ids and numbers, the text tells the causes of these categories apart.
        template = _template(said) if report.category in _BY_TEXT else ""
        return _key(said or report.hypotheses[0].title, report.category, report.detail or "", where, template)
    if place is not None and place.basis is AttributionBasis.RANKED_GUESS:
        first = report.candidates[0]
        reason = first.reasons[0]
        who = (place.agent_name if first.agent_name else None) or place.step_name or ""
        return _key(f"no error shows the place; {who}: {reason}", "guess", agent_name, who, reason)
    error = next((item for item in report.evidence_index if item.field in _ERROR_FIELDS), None)
    said = _text(error) if error is not None else ""
    return _key(said or report.insufficient_reason or report.summary, report.category, where, _template(said))


def _place_of_cause(report: Report) -> Finding | Attribution | None:
    """Return what names the place (step or call) of a report's first cause; None if nothing does.

    If an error shows the place, this is the report's attribution. Otherwise the attribution is only a ranked guess, and
    is not used. The result is then the first finding of the report that is no guess and that cites the first evidence
    of the cause.
    """
    place = report.attribution
    if place is None or place.basis is not AttributionBasis.RANKED_GUESS:
        return place
    shown = report.hypotheses[0].evidence_ids[0]
    return next(
        (found for found in report.findings if shown in found.evidence_ids and found.basis is not place.basis), None
    )


def _key(line: str, *parts: str) -> FailureKey:
    digest = hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()
    return FailureKey(digest[:KEY_CHARS], mask_secrets(line.strip())[:MAX_CAUSE_CHARS])


def _template(text: str) -> str:
    return cause_of(_QUOTED.sub(r"\1#\1", text))


def _text(shown: Evidence) -> str:
    """Return one line of an error text: of a Python traceback, the last line; of any other text, the first line.

    Blank lines do not count. Return "" if the text is blank.
    """
    lines = [line for line in shown.snippet.splitlines() if line.strip()]
    if not lines:
        return ""
    return lines[-1] if lines[0].startswith("Traceback (most recent") else lines[0]


def failure_row(rca_run_id: str, run: AgentRun, report: Report) -> dict[str, Any]:
    """Return the failure that an analysis found in `run`, as a row of the table `rca_failures`.

    If the run is a trial of an experiment, the row has no version of the agent, because the run's version is only the
    name of a variant.
    """
    found = key_of(report, run.agent_name)
    return {
        "run_id": run.run_id,
        "rca_run_id": rca_run_id,
        "cluster": found.key,
        "category": report.category.value,
        "line": found.line,
        "agent_name": run.agent_name,
        # Variants run side by side, so a failure does not begin with one of them as it begins with a release.
        "agent_version": None if is_trial(run) else run.agent_version,
        "started_at": run.started_at,
    }
