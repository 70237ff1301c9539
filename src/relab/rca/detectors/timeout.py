"""timeout: a tool or service did not answer in time, or the run exceeded its time limit."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from relab.core.durations import duration_text
from relab.rca.detectors import rate_limited
from relab.rca.detectors.descriptor import CategoryDescriptor, action
from relab.rca.detectors.explanation import Explanation, Facts
from relab.rca.detectors.phrases import Phrases, phrase
from relab.rca.detectors.problems import DetectedProblem
from relab.rca.detectors.signs import LOCATED_KINDS, ErrorRule, Sign, problem_of, signs
from relab.rca.evidence import Failure, Quotation, RunView
from relab.rca.models import Category, Confidence, EvidenceKind
from relab.telemetry.models import StepStatus

CUT_OFFS_MS = tuple(seconds * 1_000 for seconds in (5, 10, 15, 20, 30, 60, 90, 120, 180, 300, 600))
"""Common time-out settings in ms; a call with a latency just above one of them probably timed out."""

CUT_OFF_TOLERANCE = 0.02
SAME_LATENCY_TOLERANCE = 0.01
MIN_SAME_LATENCY_MS = 1_000.0

_SETTING = r"(?!['\"]?\s*(?:must|should|parameter|argument|option|value|setting|is not a|=|to be))"

WORDING = Phrases(
    (
        phrase(
            "deadline",
            "deadline|time limit|execution time|max|took too long",
            r"deadline[ _]?(?:has )?(?:been )?exceeded|exceeded .{0,30}(?:deadline|time limit|execution time)"
            r"|time limit (?:\w+ )?(?:exceeded|reached)|deadline (?:expired|reached|passed)|took too long"
            r"|max(?:imum)?(?: allowed)?(?: execution| run)? time (?:\([^)]{1,20}\) )?(?:was )?(?:exceeded|reached)",
        ),
        phrase(
            None,
            "timed out|timed-out|time out|time-out",
            r"\btimed[ -]out\b|\btime[ -]out (?:while|after|waiting|of|error)\b",
        ),
        phrase("network", "etimedout|esockettimedout", r"\bE(?:SOCKET)?TIMEDOUT\b"),
        phrase(
            None,
            "timeout",
            r"\btimeout (?:of|after|exceeded|expired|reached|error|occurred|while|waiting|was (?:reached|exceeded))\b"
            rf"|\b(?:read|connect(?:ion)?|request|gateway|operation|execution|tool|step|query|statement|idle"
            rf"|socket|lock wait|"
            rf"response|upstream) ?timeout\b{_SETTING}|^\W*timeout\W*$|(?:error|exception|failed"
            rf"|failure)\W+(?:due to )?timeout\b{_SETTING}",
        ),
        phrase(
            None,
            "did not|didn't|failed to",
            r"(?:did not|didn't|failed to) (?:respond|complete|finish|answer|return) (?:with)?in\b",
        ),
    )
)

RULE = ErrorRule(
    codes={408: None, 504: "gateway", 524: "gateway", 598: "network", 599: "network"},
    classes=re.compile(r"time(?:d)?_?out|deadline_?exceeded", re.IGNORECASE),
    phrases=WORDING,
    guard_types=re.compile(r"time[ _-]?out|deadline|time[ _-]?limit", re.IGNORECASE),
)


def detect(view: RunView) -> Iterator[DetectedProblem]:
    """Find time-outs of tools and services, and of the run itself.

    The signs are the status codes 408, 504, 524, 598 and 599, error classes, typical wordings, and a latency at a
    common time limit. Values of `detail`: `deadline`, `gateway`, `network`, and `latency_cut_off` (only the latency
    suggests a time-out).
    """
    for failure, sign in signs(_read, view):
        problem = problem_of(Category.TIMEOUT, failure, sign)
        yield _at_what_never_ended(problem, view) if failure.kind is EvidenceKind.RUN else problem
    yield from _at_cut_off(view)


def _read(failure: Failure) -> Sign | None:
    if failure.status_code == 429 or rate_limited.WORDING.found_in(failure.text):
        return None
    return RULE.read(failure)


def _at_what_never_ended(problem: DetectedProblem, view: RunView) -> DetectedProblem:
    """Return the time-out of a run, located at the call or step that never ended.

    This is the last call with the status RUNNING or, without one, the last step with this status. If no call and no
    step has this status, return the problem unchanged.
    """
    for call in reversed(view.calls):
        if call.call.status is StepStatus.RUNNING:
            return replace(
                problem,
                step_id=call.call.step_id,
                call_id=call.call.call_id,
                agent_name=call.agent_name,
                tool_name=call.call.tool_name,
                quotes=(*problem.quotes, Quotation(EvidenceKind.TOOL_CALL, call.call, "status")),
            )
    for placed in reversed(view.steps):
        step = placed.step
        if step.status is StepStatus.RUNNING:
            quote = Quotation(EvidenceKind.STEP, step, "status")
            return replace(problem, step_id=step.step_id, agent_name=step.agent_name, quotes=(*problem.quotes, quote))
    return problem


def _is_unexplained(failure: Failure) -> bool:
    """Return whether a failure has a known latency, and its error gives no reason.

    An error gives a reason if its class or its text is specific, or if its status code reports an error. The status code
    500 is no reason.
    """
    code = failure.status_code
    return (
        failure.kind in LOCATED_KINDS
        and failure.is_generic
        and failure.latency_ms is not None
        and (code is None or code < 400 or code == 500)
        and failure.text.status_code in (None, 500)
    )


def _cut_off(latency_ms: float) -> int | None:
    """Return the common time limit, in ms, that probably ended a call with this latency; None if no limit matches.

    A limit matches if the latency equals it, or exceeds it by at most the fraction `CUT_OFF_TOLERANCE` of the limit.
    """
    return next((cut for cut in CUT_OFFS_MS if cut <= latency_ms <= cut * (1 + CUT_OFF_TOLERANCE)), None)


def _at_cut_off(view: RunView) -> Iterator[DetectedProblem]:
    """Yield a problem for each failed call or step with a meaningless error and the latency of a time-out.

    The latency must be near a common time limit, such as 30 s, or near the latency of another such failure of the same
    tool or step.
    """
    by_source: dict[tuple[str | None, str | None], list[tuple[float, Failure]]] = defaultdict(list)
    for failure in (*view.call_failures, *view.step_failures):
        if _is_unexplained(failure) and failure.latency_ms is not None:
            by_source[failure.tool_name, failure.step_id if failure.tool_name is None else None].append(
                (failure.latency_ms, failure)
            )
    for timed in by_source.values():
        timed.sort(key=lambda pair: (pair[0], pair[1].position))
        for index, (latency, failure) in enumerate(timed):
            neighbours = timed[max(0, index - 1) : index] + timed[index + 1 : index + 2]
            same = latency >= MIN_SAME_LATENCY_MS and any(
                abs(other - latency) <= SAME_LATENCY_TOLERANCE * latency for other, _ in neighbours
            )
            cut_off = _cut_off(latency)
            if cut_off is None and not same:
                continue
            confidence = Confidence.MEDIUM if cut_off is not None and same else Confidence.LOW
            problem = problem_of(Category.TIMEOUT, failure, Sign(confidence, "latency_cut_off"))
            yield replace(problem, quotes=(*problem.quotes, *_latency_quote(failure)))


def _latency_quote(failure: Failure) -> tuple[Quotation, ...]:
    if getattr(failure.source, "latency_ms", None) is None:
        return ()
    return (Quotation(failure.kind, failure.source, "latency_ms"),)


_DURATION = r"\d{1,15}(?:\.\d{1,9})?\s?(?:ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?)"
_LIMIT = re.compile(
    rf"(?:time[ -]?(?:d )?out|timed out|time limit|deadline)\w{{0,10}}[^\d\n]{{0,40}}?\b(?P<limit>{_DURATION})\b"
    # Without a unit only `timeout=30` is a limit: "timeout, attempt 3" and "timeout at port 5432" are not.
    r"|(?:time[ _-]?out|time[ _-]limit|deadline)(?:_(?:s|ms|sec|secs|seconds))?['\"]?\s{0,5}[=:]\s{0,5}(?P<bare>(?!(?:408|504|524)\b)\d{1,15}(?:\.\d{1,9})?)(?![\w:/-]|\.\d)"
    rf"|(?:within|after) (?P<other>{_DURATION})\b",
    re.IGNORECASE,
)


def explain(problem: DetectedProblem, view: RunView) -> Explanation | None:
    """Explain how long the call took, which limit the error names, and how long other calls of the same tool took.

    Return None if neither the duration nor the limit is known.
    """
    facts = Facts(problem, view)
    limit = facts.match(_LIMIT, "limit") or facts.match(_LIMIT, "bare") or facts.match(_LIMIT, "other")
    source = facts.call if facts.call is not None else facts.step
    # A duration of 0 was not measured: some programs record the end as the start.
    own_ms = (source.effective_latency_ms if source is not None else None) or None
    others = [
        latency_ms
        for placed in view.calls
        if facts.call is not None
        and placed.call.tool_name == facts.call.tool_name
        and placed.call.status is StepStatus.SUCCESS
        and (latency_ms := placed.call.effective_latency_ms)
    ]
    if limit is None and own_ms is None:
        return None
    # Without its duration, nothing is said about the call itself: an earlier sentence says already that it did not
    # finish in time.
    parts = [] if own_ms is None else [f"{facts.subject} ended after {duration_text(own_ms)}"]
    if limit is not None:
        parts.append(f"the limit in the error is {limit}")
    if others:
        parts.append(f"the slowest of {len(others)} good calls of it took {duration_text(max(others))}")
    arguments = facts.short_arguments()
    if arguments is not None:
        parts.append(f"its arguments were {arguments}")
    slow = bool(others) and own_ms is not None and max(others) * 2 < own_ms
    fix = (
        f"Calls of {facts.subject} are usually far faster: find what it waited for, and repeat the call once with a shorter limit"
        if slow
        else f"Measure how long {facts.subject} usually takes, set the limit above that and below the deadline of the run"
    )
    return facts.explanation("; ".join(parts), f"{fix}; let the agent continue without the result.")


DESCRIPTOR = CategoryDescriptor(
    category=Category.TIMEOUT,
    detect=detect,
    title="Timeout",
    cause="a time-out",
    clause="{subject} did not finish in time",
    explain=explain,
    names=re.compile(r"\btime[- ]?outs?\b|\btim(?:ed|es|ing)[- ]out\b|\bdeadline (?:was )?exceeded\b"),
    checks=(
        "Compare the latency of the failed call with the tool's usual latency and with the configured time-out",
        "Check the load and the logs of the service that did not answer in time",
    ),
    actions=(
        action(
            "config_change",
            "high",
            "Align time-outs with measured latency",
            "Set each time-out above the tool's 99th percentile latency and below the deadline of the run.",
        ),
        action(
            "code_change",
            "medium",
            "Degrade when a tool is slow",
            "Give slow calls a fallback, make them cancellable, and retry only what is idempotent.",
        ),
    ),
    is_external=True,
    is_general=True,
)
