"""retrieval_empty: a search or look-up found nothing, and the run continued without its result."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from relab.rca.detectors.descriptor import CategoryDescriptor, action
from relab.rca.detectors.explanation import Explanation, Facts
from relab.rca.detectors.phrases import NO_RESULTS
from relab.rca.detectors.problems import DetectedProblem, lowered
from relab.rca.detectors.signs import ErrorRule, problem_of, signs
from relab.rca.evidence import PlacedCall, Quotation, RunView, is_good_call, quotable_field, read_error
from relab.rca.models import Category, Confidence, EvidenceKind
from relab.telemetry.models import StepStatus

MAX_PHRASE_CHARS = 200
"""A longer text that says "no results" also has other content, so it is not empty."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_READS = frozenset(
    [
        "search",
        "searches",
        "searching",
        "searcher",
        "find",
        "finder",
        "lookup",
        "query",
        "queries",
        "retrieve",
        "retriever",
        "retrieval",
        "knowledge",
        "vector",
        "vectorstore",
        "rag",
        "semantic",
        "similarity",
        "kb",
        "index",
        "corpus",
        "wiki",
        "wikipedia",
        "docs",
        "documents",
    ]
)
_WRITES = frozenset(
    [
        "write",
        "create",
        "update",
        "delete",
        "remove",
        "insert",
        "upsert",
        "add",
        "save",
        "store",
        "set",
        "put",
        "post",
        "send",
        "book",
        "cancel",
        "replace",
        "edit",
        "modify",
        "submit",
        "upload",
        "publish",
        "reindex",
        "patch",
        "click",
    ]
)
_FETCHED = frozenset(
    [
        "doc",
        "docs",
        "document",
        "documents",
        "article",
        "articles",
        "page",
        "pages",
        "passage",
        "passages",
        "records",
        "context",
        "chunks",
    ]
)
_COUNTS = frozenset(["total", "count", "total_count", "num_results", "total_results", "hits_count", "size", "n"])
_CONTAINERS = frozenset(
    [
        "results",
        "result",
        "documents",
        "docs",
        "items",
        "hits",
        "matches",
        "data",
        "records",
        "rows",
        "passages",
        "chunks",
        "entries",
        "articles",
        "nodes",
        "value",
    ]
)
_EMPTY_TEXTS = frozenset(("", "[]", "{}", "()", "null", "none", '""', "''", "[[]]", "[{}]", "n/a", "empty"))

RULE = ErrorRule(
    codes={},
    classes=re.compile(
        r"no_?(?:results?|documents?|matches)_?(?:found)?|empty_?(?:search_?)?(?:result|retrieval)|retrieval_?empty",
        re.IGNORECASE,
    ),
    phrases=NO_RESULTS,
    guard_types=re.compile(
        r"(?:empty|no)[ _-]?(?:retriev|result|context|document)|retrieval[ _-]?empty", re.IGNORECASE
    ),
)


@dataclass(frozen=True, slots=True)
class Emptiness:
    """How the result of a retrieval is empty.

    Attributes:
        detail: `empty_result` (data without items), `no_results` (a text that says so) or `no_output` (blank).
        is_structured: whether the result is data without items.
    """

    detail: str
    is_structured: bool


def is_retrieval(name: str) -> bool:
    """Return whether the name of a tool or step shows that it only searches or reads, and changes nothing."""
    words = [word.casefold() for word in _WORDS.findall(name)]
    if "vector" in words and "store" in words:
        words.remove("store")
    if not _WRITES.isdisjoint(words):
        return False
    if not _READS.isdisjoint(words):
        return True
    joined = "".join(words)
    if "lookup" in joined or "retriev" in joined:
        return True
    return ("fetch" in words or "get" in words) and not _FETCHED.isdisjoint(words)


def emptiness(text: str | None) -> Emptiness | None:
    """Return in which way a result is empty: without items, as a text that says so, or blank.

    Return None if the result has content, or if `text` is None (not reported).
    """
    if text is None:
        return None
    bare = text.strip()
    if not bare:
        return Emptiness("no_output", is_structured=False)
    if bare.casefold() in _EMPTY_TEXTS:
        return Emptiness("empty_result", is_structured=True)
    if bare[0] in "{[" and len(bare) <= 2_000:
        return _empty_json(bare)
    if len(bare) <= MAX_PHRASE_CHARS and NO_RESULTS.found_in(read_error(bare)):
        return Emptiness("no_results", is_structured=False)
    return None


def _empty_json(text: str) -> Emptiness | None:
    """Recognise empty JSON results such as `[ ]` or `{"results": [], "total": 0}`; return None for any other text."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None  # A summary that is cut off, or is not JSON, has content.
    if data in ([], {}):
        return Emptiness("empty_result", is_structured=True)
    if not isinstance(data, dict):
        return None
    containers = [value for key, value in data.items() if key.casefold() in _CONTAINERS]
    if any(value not in ([], {}, "", None, 0) for value in containers):
        return None
    counts = [value for key, value in data.items() if key.casefold() in _COUNTS]
    if any(value not in (0, None) for value in counts) or not (containers or 0 in counts):
        return None
    return Emptiness("empty_result", is_structured=True)


def detect(view: RunView) -> Iterator[DetectedProblem]:
    """Find retrievals without a result: empty results, texts such as "no results", and errors that say so.

    Values of `detail`: `empty_result`, `no_results`, `no_output`.
    """
    yield from _stated_as_error(view)
    good = [placed for placed in view.calls if is_good_call(placed.call) and is_retrieval(placed.call.tool_name)]
    found = [(placed, emptiness(placed.call.result_summary)) for placed in good]
    all_empty = all(empty is not None for _, empty in found)
    last_fruit: dict[str, int] = {}
    last_any = -1
    for placed, empty in found:
        if empty is None and placed.call.result_summary is not None:
            last_fruit[placed.call.tool_name] = last_any = placed.position
    for placed, empty in found:
        if empty is not None:
            got_past = view.succeeded or last_fruit.get(placed.call.tool_name, -1) > placed.position
            problem = _of_call(placed, empty, recovered=got_past, all_empty=all_empty)
            # A later result of another tool probably replaced the missing one.
            stood_in = not got_past and last_any > placed.position
            yield replace(problem, confidence=lowered(problem.confidence)) if stood_in else problem
    yield from _empty_steps(view)


def _of_call(placed: PlacedCall, empty: Emptiness, *, recovered: bool, all_empty: bool) -> DetectedProblem:
    """Return the problem of a retrieval call with an empty result.

    Its confidence is low for a blank result, high for data without items if `all_empty` is true, and medium otherwise.

    Args:
        placed: the call.
        empty: how its result is empty: data without items, a text that says so, or blank.
        recovered: whether the run recovered from the empty result.
        all_empty: whether all successful retrieval calls of the run had empty results.
    """
    call = placed.call
    if empty.detail == "no_output":
        confidence = Confidence.LOW
    elif empty.is_structured and all_empty:
        confidence = Confidence.HIGH
    else:
        confidence = Confidence.MEDIUM
    field = quotable_field(call, "result_summary", "args_json", "status")
    return DetectedProblem(
        category=Category.RETRIEVAL_EMPTY,
        detail=empty.detail,
        confidence=confidence,
        at_us=placed.ended_us,
        kind=EvidenceKind.TOOL_CALL,
        position=placed.position,
        quotes=(Quotation(EvidenceKind.TOOL_CALL, call, field, title=f"Empty result: {call.tool_name}"),),
        step_id=call.step_id,
        call_id=call.call_id,
        agent_name=placed.agent_name,
        tool_name=call.tool_name,
        recovered=recovered,
    )


def _stated_as_error(view: RunView) -> Iterator[DetectedProblem]:
    """Yield a problem for each error or guardrail event about a retrieval that found nothing."""
    for failure, sign in signs(RULE.read, view):
        if failure.kind is EvidenceKind.TOOL_CALL and not is_retrieval(failure.tool_name or ""):
            continue
        if failure.kind is EvidenceKind.STEP and failure.is_hint:
            continue
        yield problem_of(Category.RETRIEVAL_EMPTY, failure, sign)


def _empty_steps(view: RunView) -> Iterator[DetectedProblem]:
    """Yield a problem, with low confidence, for each successful retrieval step whose output is empty.

    Empty means data without items (`[]`), or a text such as "no results". A blank or unreported output does not count.
    Steps with tool calls are left out.
    """
    with_calls = {placed.call.step_id for placed in view.calls}
    for placed in view.steps:
        step = placed.step
        if step.status is not StepStatus.SUCCESS or step.step_id in with_calls or not is_retrieval(step.name):
            continue
        empty = emptiness(step.output_summary)
        if empty is not None and empty.detail != "no_output":
            yield DetectedProblem(
                category=Category.RETRIEVAL_EMPTY,
                detail=empty.detail,
                confidence=Confidence.LOW,
                at_us=placed.ended_us,
                kind=EvidenceKind.STEP,
                position=placed.position,
                quotes=(Quotation(EvidenceKind.STEP, step, "output_summary", title=f"Empty result: {step.name}"),),
                step_id=step.step_id,
                agent_name=step.agent_name,
                recovered=view.step_was_recovered(placed),
            )


def explain(problem: DetectedProblem, view: RunView) -> Explanation | None:
    """Explain what was searched for, and whether other calls of the same tool found something.

    Return None if the run does not report what was searched for.
    """
    facts = Facts(problem, view)
    searched = facts.arguments() or (facts.field("input_summary") if facts.call is None else None)
    if searched is None:
        return None
    result = facts.field("result_summary") if facts.call is not None else facts.field("output_summary")
    what = f"{facts.subject} was searched with {searched} and returned {result or 'nothing'}"
    name = facts.call.tool_name if facts.call is not None else None
    same = [placed.call for placed in view.calls if placed.call.tool_name == name and is_good_call(placed.call)]
    # A result that was not reported is neither empty nor found.
    same = [call for call in same if call.result_summary is not None]
    found = sum(emptiness(call.result_summary) is None for call in same)
    if len(same) > 1:
        what += f"; {found} of {len(same)} calls of it in this run found something"
    fix = (
        f"The index answers other queries, so look at this one: search {facts.subject} by hand with {searched}, and without its filters"
        if found
        else f"Search {facts.subject} by hand with {searched}: if that is empty too, the index lacks the documents or a filter excludes them"
    )
    return facts.explanation(
        what, f"{fix}. Let the agent say that nothing was found instead of going on without facts."
    )


DESCRIPTOR = CategoryDescriptor(
    category=Category.RETRIEVAL_EMPTY,
    detect=detect,
    title="Retrieval Empty",
    cause="an empty retrieval result",
    clause="{subject} found nothing",
    explain=explain,
    names=re.compile(
        r"retrieval[-_ ]*empty|\bempty[-_ ]*(?:retrieval|search|result)"
        r"|\b(?:retrieval|search)\w*(?: \w+)? (?:returned|found|gave|yielded) (?:nothing|no\b|zero|an empty)"
    ),
    checks=(
        "Run the same query against the index by hand",
        "Check that the index holds the expected documents, and that filters of the query don't exclude them",
    ),
    actions=(
        action(
            "code_change",
            "high",
            "Handle empty retrieval results",
            "Broaden or rephrase the query once when nothing is found, then say so instead of going on without facts.",
        ),
        action(
            "monitoring",
            "medium",
            "Measure the share of empty retrievals",
            "Record the number of results per query, and alert when the share of empty ones rises.",
        ),
    ),
    may_cause=frozenset(
        {Category.PLANNER_LOOP, Category.TOOL_SCHEMA_MISMATCH, Category.UNKNOWN, Category.RETRIEVAL_EMPTY}
    ),
)
