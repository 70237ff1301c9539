"""planner_loop: the agent repeats itself without progress."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from relab.rca.detectors.cycles import find_cycles
from relab.rca.detectors.descriptor import CategoryDescriptor, action
from relab.rca.detectors.explanation import Explanation, Facts, listed, ticked
from relab.rca.detectors.phrases import Phrases, phrase
from relab.rca.detectors.problems import DetectedProblem
from relab.rca.detectors.repeatable import PENDING, Repeatable, call_quote, is_waiting, repeatable
from relab.rca.detectors.signs import ErrorRule, problem_of, signs
from relab.rca.evidence import PlacedCall, PlacedStep, Quotation, RunView, field_text, is_good_call
from relab.rca.models import Category, Confidence, EvidenceKind
from relab.telemetry.models import Step, StepStatus, ToolCall

RETRIES: Final = "retries"
"""The detail of a step or call that was retried at least `MIN_RETRIES` times."""

MIN_RETRIES = 3
MIN_REPEATS = 3
SURE_REPEATS = 5
MANY_POLLS = 10
"""This number of identical calls in a failed run is a loop, even if the results differ or the calls look like polling."""

MIN_OUTPUT_CHARS = 40
"""Shorter outputs ("Done.", "Processed successfully") may repeat although the agent is not in a loop."""

CITED_REPEATS = 3

RULE = ErrorRule(
    codes={},
    classes=re.compile(
        r"graph_?recursion|llm_?calls_?limit|max_?(?:turns?|steps?|iterations?)(?:_?(?:exceeded|error|reached))+|iteration_?limit"
        r"|agent_?max_?\w+error"
        r"|(?:planner|agent)_?loop|loop_?(?:detected|error)",
        re.IGNORECASE,
    ),
    phrases=Phrases(
        (
            phrase(
                "iteration_limit",
                "max|iteration|limit of|turn|steps|rounds|request_limit|stop condition",
                r"(?:max(?:imum)?(?:[ _](?:number|count) of)?|limit of \d+)[ _](?:allowed )?(?:agent |planner "
                r"|planning |reasoning )?"
                r"(?:iterations?|steps?|turns?|rounds?|loops?)\b.{0,30}(?:reached|exceeded|hit|exhausted)"
                r"|(?:reached|exceeded|hit"
                r"|over) (?:the )?max(?:imum)?[ _](?:number of )?(?:agent )?(?:iterations?|steps?|turns?|rounds?|loops?)\b"
                r"|stopped due to (?:iteration|max)|iteration limit (?:or time limit)?"
                r"|recursion limit of \d+ (?:reached|exceeded)|without (?:hitting|reaching) a stop condition"
                r"|exceed the request_limit of \d|max(?:imum)? number of llm calls\b.{0,30}exceeded",
            ),
            phrase(
                "retries_exhausted",
                "retries|retry",
                # "Max retries exceeded with url" is how an HTTP library words a failed connection.
                r"max(?:imum)? (?:number of )?(?:retries|retry attempts)\b.{0,20}(?:exceeded|reached"
                r"|exhausted)(?! with url)"
                r"|(?:excessive|too many|exhausted (?:all |its )?) ?(?:retries|retry attempts)\b",
            ),
            phrase(
                None,
                "loop",
                # An endless loop in code that the agent wrote is not a loop of the agent.
                r"(?:planner|planning|agent|tool(?:[ -]call)?) loop\b|\bloop (?:was )?detected|stuck in a loop",
            ),
        )
    ),
    guard_types=re.compile(r"loop|max[ _-]?(?:iterations?|steps?|turns?)|repetition", re.IGNORECASE),
)

_DIGITS = re.compile(r"\d+")


def detect(view: RunView) -> Iterator[DetectedProblem]:
    """Find repetition without progress, which the steps and calls of a run show or an error states.

    Values of `detail`:

    - Shown by steps and calls: `retries`, `identical_calls`, `alternating_cycle`, `identical_steps`.
    - Stated by an error: `iteration_limit`, `retries_exhausted`, or None (a loop of another kind).
    """
    for failure, sign in signs(RULE.read, view):
        yield problem_of(Category.PLANNER_LOOP, failure, sign)
    yield from _retried(view)
    by_agent: dict[str | None, list[Repeatable]] = defaultdict(list)
    for placed in view.calls:
        by_agent[placed.agent_name].append(repeatable(placed))
    loops = [loop for sequence in by_agent.values() for loop in _looping_calls(sequence, view)]
    yield from loops
    yield from _looping_steps(view, loops)


def _retried(view: RunView) -> Iterator[DetectedProblem]:
    for step in view.steps:
        if step.step.retries >= MIN_RETRIES:
            recovered = step.step.status is StepStatus.SUCCESS or view.step_was_recovered(step)
            problem = _retries_of(step, step.step, EvidenceKind.STEP, recovered=recovered)
            yield replace(problem, agent_name=step.step.agent_name)
    for call in view.calls:
        tool = call.call
        if tool.retries >= MIN_RETRIES:
            problem = _retries_of(call, tool, EvidenceKind.TOOL_CALL, recovered=view.call_was_recovered(call))
            yield replace(
                problem,
                call_id=tool.call_id,
                agent_name=call.agent_name,
                tool_name=tool.tool_name,
                members=(call.position,),
            )


def _retries_of(
    placed: PlacedStep | PlacedCall, source: Step | ToolCall, kind: EvidenceKind, *, recovered: bool
) -> DetectedProblem:
    return DetectedProblem(
        category=Category.PLANNER_LOOP,
        detail=RETRIES,
        confidence=Confidence.HIGH if source.status is StepStatus.FAILURE else Confidence.MEDIUM,
        at_us=placed.ended_us,
        kind=kind,
        position=placed.position,
        quotes=(Quotation(kind, source, "retries", attributes={"retries": source.retries}),),
        step_id=source.step_id,
        recovered=recovered,
        occurrences=source.retries,
    )


def _looping_calls(sequence: Sequence[Repeatable], view: RunView) -> Iterator[DetectedProblem]:
    """Yield a problem for each loop (repetition without progress) in the calls of one agent."""
    in_cycle: set[int] = set()
    by_key: dict[tuple[str, str], list[int]] = defaultdict(list)
    tokens = [(item.key, item.outcome) if item.key is not None else None for item in sequence]
    cycles = list(find_cycles(tokens, min_repeats=MIN_REPEATS))
    for cycle in cycles:
        in_cycle.update(range(cycle.start, cycle.end))
    for index, item in enumerate(sequence):
        if item.key is not None and index not in in_cycle:
            by_key[item.key].append(index)
    groups = [indexes for indexes in by_key.values() if len(indexes) >= MIN_REPEATS]
    repeated = {index for indexes in groups for index in indexes} | in_cycle
    fresh_before, last_progress = [0], -1
    for index, item in enumerate(sequence):
        fresh_before.append(fresh_before[-1] + (index not in repeated))
        if index not in repeated and is_good_call(item.placed.call):
            last_progress = index
    for cycle in cycles:
        members = sequence[cycle.start : cycle.end]
        yield _loop("alternating_cycle", members, cycle.repeats, view, got_past=last_progress >= cycle.end)
    for indexes in groups:
        yield from _identical(indexes, sequence, fresh_before, last_progress, view)


def _identical(
    indexes: list[int], sequence: Sequence[Repeatable], fresh_before: list[int], last_progress: int, view: RunView
) -> Iterator[DetectedProblem]:
    """Yield a problem if identical calls are a loop; otherwise yield nothing.

    The calls are a loop if at least `MIN_REPEATS` in a row have equal outcomes, with no new call in between. A call is
    new if it is in no cycle, and occurs fewer than `MIN_REPEATS` times. In a failed run, a weaker sign is enough, with
    low confidence: such a row with new calls in between, or `MANY_POLLS` identical calls with any outcomes. A row is
    polling, and no sign, if it is shorter than `MANY_POLLS` and its result says "not yet".

    Args:
        indexes: the indexes in `sequence` of the identical calls (same tool and arguments).
        sequence: all calls of one agent.
        fresh_before: for each index of `sequence`, the number of new calls before it.
        last_progress: the index of the last new call that succeeded; -1 without such a call.
        view: the run.
    """
    stuck: list[int] = []
    scattered: list[int] = []
    chain: list[int] = []
    tight: list[int] = []
    for index in indexes:
        same = bool(chain) and sequence[chain[-1]].outcome == sequence[index].outcome
        close = bool(tight) and fresh_before[index] == fresh_before[tight[-1] + 1]
        chain = _extended(chain, index, unbroken=same)
        tight = _extended(tight, index, unbroken=same and close)
        stuck = max(stuck, tight, key=len)
        scattered = max(scattered, chain, key=len)
    is_polling = is_waiting(sequence[scattered[0]]) and len(scattered) < MANY_POLLS
    if len(stuck) >= MIN_REPEATS and not is_polling:
        places, is_hint = stuck, False
    elif view.failed and len(scattered) >= MIN_REPEATS and not is_polling:
        places, is_hint = scattered, True
    elif view.failed and len(indexes) >= MANY_POLLS:
        places, is_hint = indexes, True
    else:
        return
    last = sequence[indexes[-1]]
    resolved = is_good_call(last.placed.call) and last.outcome != sequence[places[0]].outcome
    members = [sequence[place] for place in places]
    got_past = resolved or last_progress > places[-1]
    problem = _loop("identical_calls", members, len(members), view, got_past=got_past)
    yield replace(problem, confidence=Confidence.LOW) if is_hint else problem


def _extended(chain: list[int], index: int, *, unbroken: bool) -> list[int]:
    """Add `index` to a chain, the indexes of repeated calls; return it. Without `unbroken`, return a new chain `[index]`."""
    if not unbroken:
        return [index]
    # In place, so that the total cost stays linear.
    chain.append(index)
    return chain


def _loop(
    detail: str, members: Sequence[Repeatable], repeats: int, view: RunView, *, got_past: bool
) -> DetectedProblem:
    """Build the problem of a loop: the calls `members`, in which a call or a cycle of calls occurs `repeats` times.

    `detail` is the kind of loop, such as `identical_calls`. `got_past` states whether the agent left the loop later.
    The problem is marked as recovered if `got_past` is true, or if the run succeeded.
    """
    first = members[0].placed
    blind = all(item.is_blind for item in members)
    confidence = Confidence.HIGH if repeats >= SURE_REPEATS and not blind else Confidence.MEDIUM
    if blind and not view.failed:
        confidence = Confidence.LOW
    attributes = {"repetitions": repeats}
    return DetectedProblem(
        category=Category.PLANNER_LOOP,
        detail=detail,
        confidence=confidence,
        at_us=first.started_us,
        kind=EvidenceKind.TOOL_CALL,
        position=first.position,
        quotes=tuple(call_quote(item.placed, attributes) for item in members[:CITED_REPEATS]),
        step_id=first.call.step_id,
        call_id=first.call.call_id,
        agent_name=first.agent_name,
        tool_name=first.call.tool_name,
        recovered=view.succeeded or got_past,
        occurrences=repeats,
        members=tuple(item.placed.position for item in members),
    )


def _looping_steps(view: RunView, loops: Sequence[DetectedProblem]) -> Iterator[DetectedProblem]:
    """Yield a problem for each series of at least three equal steps in a row of one agent.

    Equal steps have the same name (except digits), input and output. A series is left out if its output is shorter than
    `MIN_OUTPUT_CHARS`, or if `loops` (the known loops of calls) already has a loop of the agent at that time. If the
    run reports its calls, steps that are messages to an agent are skipped.
    """
    requested = _loop_starts(loops, view)
    chains: dict[str | None, list[PlacedStep]] = {}
    keys: dict[str | None, tuple[object, ...]] = {}
    for placed in view.steps:
        step = placed.step
        if view.calls and view.is_received(step):
            continue
        output, agent = step.output_summary, step.agent_name
        key = (_DIGITS.sub("#", step.name), step.input_summary, output)
        if output is not None and keys.get(agent) == key:
            chains[agent].append(placed)
            continue
        yield from _said_again(chains.get(agent, []), view, requested.get(agent, ()))
        chains[agent], keys[agent] = [placed], key
    for agent, chain in chains.items():
        yield from _said_again(chain, view, requested.get(agent, ()))


def _said_again(chain: Sequence[PlacedStep], view: RunView, requested: Sequence[int]) -> Iterator[DetectedProblem]:
    first = chain[0] if chain else None
    if first is None or len(chain) < MIN_REPEATS or len((first.step.output_summary or "").strip()) < MIN_OUTPUT_CHARS:
        return
    if bisect_left(requested, first.step.started_at) < bisect_right(requested, chain[-1].step.started_at):
        return
    is_sure = view.failed and not PENDING.search(first.step.output_summary or "")
    yield DetectedProblem(
        category=Category.PLANNER_LOOP,
        detail="identical_steps",
        confidence=Confidence.MEDIUM if is_sure else Confidence.LOW,
        at_us=first.step.started_at,
        kind=EvidenceKind.STEP,
        position=first.position,
        quotes=tuple(
            Quotation(EvidenceKind.STEP, placed.step, "output_summary", attributes={"repetitions": len(chain)})
            for placed in chain[:CITED_REPEATS]
        ),
        step_id=first.step.step_id,
        agent_name=first.step.agent_name,
        recovered=view.succeeded,
        occurrences=len(chain),
    )


def _loop_starts(loops: Sequence[DetectedProblem], view: RunView) -> dict[str | None, list[int]]:
    """Return `{agent or None: start times in µs of calls in loops}`, without the last `MIN_REPEATS - 1` of a loop."""
    found: dict[str | None, list[int]] = defaultdict(list)
    for loop in loops:
        found[loop.agent_name] += sorted(view.calls[place].started_us for place in loop.members)[: 1 - MIN_REPEATS]
    return {agent: sorted(starts) for agent, starts in found.items()}


def explain(problem: DetectedProblem, view: RunView) -> Explanation | None:
    """Explain a loop: what was repeated, how often, with which result. Return None if no text shows the loop."""
    facts = Facts(problem, view)
    count = problem.occurrences
    if problem.detail not in ("identical_calls", "alternating_cycle", RETRIES):
        return _of_text(facts, count)
    arguments = facts.arguments()
    result = facts.field("result_summary" if facts.call is not None else "output_summary")
    source = facts.source
    is_answer = (
        result is not None and source is not None and field_text(source[1], "status") == StepStatus.SUCCESS.value
    )
    result = result or facts.field("error_message")
    using = f" with {arguments}" if arguments else ""
    if problem.detail == "alternating_cycle":
        facts.quotes.extend(problem.quotes)
        first_calls = {view.calls[place].call.tool_name: view.calls[place] for place in reversed(problem.members)}
        tools = list(dict.fromkeys(view.calls[place].call.tool_name for place in problem.members))
        facts.quotes.extend(call_quote(first_calls[tool], {"repetitions": count}) for tool in tools)
        what = f"the agent called {listed([ticked(tool) for tool in tools])} in turn, {count} times; it began with {facts.subject}{using}"
    elif problem.detail == RETRIES:
        what = f"{facts.subject} was retried {count} times{using}"
    else:
        what = f"{facts.subject} was called {count} times{using}"
    is_early = result is not None and _AGAIN.search(result) is not None
    fix = (_WAIT if is_early else _RETRY if problem.detail == RETRIES else _STOP).format(subject=facts.subject)
    if result:
        kind = "answer" if is_answer else "error"
        what += (
            f", and the {kind} was {result}" if _is_one_outcome(problem, view) else f"; the first {kind} was {result}"
        )
    return facts.explanation(what, fix)


def _of_text(facts: Facts, count: int) -> Explanation | None:
    """Explain a loop from the output that was given `count` times, or from an error; None if no text shows the loop."""
    error = facts.error()
    if error is None:
        return None
    if facts.problem.detail == "identical_steps":
        what = f"{facts.subject} gave the same output {count} times: {error}"
    else:
        what = f"{facts.subject} ended with {error}" + (f", {count} times" if count > 1 else "")
    return facts.explanation(what, _STOP.format(subject="the agent"))


def _is_one_outcome(problem: DetectedProblem, view: RunView) -> bool:
    return len({repeatable(view.calls[place]).outcome for place in problem.members}) <= 1


_AGAIN = re.compile(rf"{PENDING.pattern}|\b(?:ask|try|check|poll|call)\w* (?:again|later)\b", re.IGNORECASE)
_WAIT = (
    "The answer says that it is not ready: wait longer before each repetition, or let {subject} wait for it. After a set number of "
    "attempts, end the run with what is known, instead of asking until the limit of steps."
)
_RETRY = (
    "Retry {subject} only after errors that pass by themselves, wait longer before each attempt, and end with the error after a set "
    "number of attempts."
)
_STOP = (
    "Compare each call with the ones before it, and stop at the second equal call of {subject} that gets an equal answer: give the model "
    "the earlier answer with the note that it will not change, or end the run with what is known."
)

DESCRIPTOR = CategoryDescriptor(
    category=Category.PLANNER_LOOP,
    detect=detect,
    title="Planner Loop",
    cause="repetition without progress",
    clause="the agent repeated {subject} without progress",
    explain=explain,
    names=re.compile(r"planner[-_ ]*loop|\bloop(?:s|ed|ing)?\b|\bendless|\binfinite"),
    checks=(
        "Compare the arguments and results of the repeated calls in the timeline",
        "Check whether the planner is shown the results of earlier calls, and its own earlier steps",
    ),
    actions=(
        action(
            "code_change",
            "high",
            "Stop repetition without progress",
            "Detect an identical call with an identical result, and make the planner choose another action or give up.",
        ),
        action(
            "prompt_change",
            "medium",
            "State when to stop",
            "Tell the agent what to do when a tool gives the same answer again, and how many attempts it has.",
        ),
    ),
    is_general=True,
    may_cause=frozenset(
        {Category.RATE_LIMITED, Category.TIMEOUT, Category.UNKNOWN, Category.PLANNER_LOOP, Category.RETRIEVAL_EMPTY}
    ),
)
