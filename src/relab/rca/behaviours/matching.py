"""Find the behaviours in a run by the conditions of rules. Pure.

The time is proportional to the size of the run, multiplied by the number of conditions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

from relab.rca.behaviours.patterns import find
from relab.rca.behaviours.rules import (
    BehaviourRule,
    CallTest,
    GuardrailTest,
    Item,
    Range,
    Repeated,
    RuleCondition,
    RunTest,
    StepTest,
)
from relab.rca.evidence import PlacedCall, PlacedStep, Quotation, RunView, field_text, quotable_field
from relab.rca.models import EvidenceKind
from relab.telemetry.models import AgentRun, GuardrailEvent, Step, ToolCall

MAX_QUOTES: Final = 5
MAX_COMPARED: Final = 300
"""The maximum number of lines that a condition `repeated` compares with each other."""
_WORD: Final = re.compile(r"\w+")
_ONE: Final = Range(min=1)

Quotes: TypeAlias = tuple[Quotation, ...]
"""The places that show that a condition holds; none if no place can show it, such as an absence or a number of steps."""


@dataclass(frozen=True, slots=True)
class ModelOpinion:
    """The statement of a language model that a run shows a behaviour (a pattern that a rule describes).

    Attributes:
        model: the name of the model; None if it is not known.
        reason: the reason that the model gives; None if it is not known.
    """

    model: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class SeenBehaviour:
    """A behaviour that a run shows: its rule, and quotations of at most five places that show it.

    A rule describes its behaviour by a sentence, which a language model judges, or by a condition, which code checks.
    `opinion` is the statement of the model; None for a condition.
    """

    rule: BehaviourRule
    quotes: Quotes
    opinion: ModelOpinion | None = None

    @property
    def step_id(self) -> str | None:
        """The id of the step with the first quotation, or with the tool call that is quoted first; None if neither is quoted first."""
        source = self.quotes[0].source
        return source.step_id if isinstance(source, Step | ToolCall) else None


def find_behaviours(run: AgentRun, rules: Sequence[BehaviourRule]) -> tuple[SeenBehaviour, ...]:
    """Return the behaviours whose conditions a run fulfils, in the order of the rules.

    Rules with a sentence instead of a condition are left out.
    """
    if not rules:
        return ()
    matcher = _Matcher(RunView(run))
    found = []
    for rule in rules:
        quotes = None if rule.when is None else matcher.holds(rule.when)
        if quotes is not None:
            # A claim must cite something. If the absence of steps or calls is the behaviour, it cites the run itself.
            shown = quotes[:MAX_QUOTES] or (Quotation(EvidenceKind.RUN, run, "status"),)
            found.append(SeenBehaviour(rule, shown))
    return tuple(found)


class _Matcher:
    def __init__(self, view: RunView) -> None:
        self._view = view

    def holds(self, condition: RuleCondition) -> Quotes | None:
        """Return the places in the run that fulfil a condition; None if it is not fulfilled.

        The result is empty if the condition is fulfilled and no place can show it: because something is absent, or because
        of the run's outcome, duration, cost or counts.
        """
        if condition.all is not None:
            return self._all(condition.all)
        if condition.any is not None:
            return next((quotes for each in condition.any if (quotes := self.holds(each)) is not None), None)
        if condition.not_ is not None:
            return () if self.holds(condition.not_) is None else None
        return self._plain(condition)

    def _plain(self, condition: RuleCondition) -> Quotes | None:
        if condition.sequence is not None:
            return self._sequence(condition.sequence, condition.within)
        if condition.repeated is not None:
            return self._repeated(condition.repeated)
        if condition.question is not None:
            return self._text_of_run("question", condition.question)
        if condition.answer is not None:
            return self._answer(condition.answer)
        if condition.run is not None:
            return self._run(condition.run)
        return self._counted(condition)

    def _all(self, conditions: Sequence[RuleCondition]) -> Quotes | None:
        found: list[Quotation] = []
        for each in conditions:
            quotes = self.holds(each)
            if quotes is None:
                return None
            found.extend(quotes)
        return tuple(found)

    def _counted(self, condition: RuleCondition) -> Quotes | None:
        if condition.guardrail is not None:
            found = [
                quote for event in self._view.run.guardrail_events if (quote := _event(event, condition.guardrail))
            ]
        else:
            test = condition.step or condition.call
            assert test is not None
            found = [quote for item in self._items if (quote := _quote(item, test)) is not None]
        return tuple(found[:MAX_QUOTES]) if (condition.count or _ONE).holds(len(found)) else None

    def _sequence(self, items: Sequence[Item], within: int | None) -> Quotes | None:
        """Return the places of the first steps and calls that match the tests in `items`, in this order.

        Return None without a match. Other steps and calls may be between the matches. `within` is the maximum number of
        steps and calls from the first match to the last one, both included; None means no maximum.
        """
        matched = [[_quote(item, each.step or each.call) for item in self._items] for each in items]
        rows = [(row, _next_matches(row)) for row in matched[1:]]
        most = within if within is not None else len(self._items)
        for begin, first in enumerate(matched[0]):
            if first is None:
                continue
            quotes, at = [first], begin
            for row, following in rows:
                at = following[at + 1]
                if at >= min(begin + most, len(row)):
                    break
                quotes.append(row[at] or first)
            else:
                return tuple(quotes)
            if within is None:
                # The earliest match of the first test leaves the most steps and calls for the other tests.
                return None
        return None

    def _repeated(self, wanted: Repeated) -> Quotes | None:
        test = wanted.step or wanted.call
        quotes = [quote for item in self._items if (quote := _quote(item, test)) is not None][:MAX_COMPARED]
        words = [frozenset(_WORD.findall(_line(quote).lower())) for quote in quotes]
        for index, mine in enumerate(words):
            same = [
                other
                for other in range(index, len(words))
                if other == index
                or (
                    mine
                    and _tool_of(quotes[index]) == _tool_of(quotes[other])
                    and _similarity(mine, words[other]) >= wanted.similarity
                )
            ]
            if len(same) >= wanted.times:
                return tuple(quotes[each] for each in same)
        return None

    def _text_of_run(self, field: str, pattern: str) -> Quotes | None:
        span = find(pattern, field_text(self._view.run, field))
        return None if span is None else (Quotation(EvidenceKind.RUN, self._view.run, field, *span),)

    def _answer(self, pattern: str) -> Quotes | None:
        """Search the run's answer for a pattern; return a quotation of the match (in a tuple), or None without a match.

        If the run has no answer, search the output of the last step that has an output.
        """
        if self._view.run.answer is not None:
            return self._text_of_run("answer", pattern)
        last = next((placed.step for placed in reversed(self._view.steps) if placed.step.output_summary), None)
        span = None if last is None else find(pattern, last.output_summary)
        return None if span is None or last is None else (Quotation(EvidenceKind.STEP, last, "output_summary", *span),)

    def _run(self, test: RunTest) -> Quotes | None:
        run, view = self._view.run, self._view
        texts = (
            ("agent_name", test.agent),
            ("agent_version", test.version),
            ("environment", test.environment),
        )
        quotes: list[Quotation] = []
        for field, pattern in texts:
            if pattern is not None:
                found = self._text_of_run(field, pattern)
                if found is None:
                    return None
                quotes.extend(found)
        numbers = (
            (test.duration_s, (view.end_us - run.started_at) / 1_000_000),
            (test.steps, len(run.steps)),
            (test.tool_calls, len(run.tool_calls)),
            (test.cost_usd, run.cost.total_cost_usd if run.cost is not None else None),
        )
        if any(bounds is not None and not bounds.holds(number) for bounds, number in numbers):
            return None
        if test.outcome is not None and test.outcome != view.outcome.value:
            return None
        return tuple(quotes)

    @cached_property
    def _items(self) -> list[PlacedStep | PlacedCall]:
        """The steps and calls in order of time; a step comes before calls that start at the same time."""
        timed: list[tuple[int, int, int, PlacedStep | PlacedCall]] = [
            *((placed.step.started_at, 0, placed.position, placed) for placed in self._view.steps),
            *((placed.started_us, 1, placed.position, placed) for placed in self._view.calls),
        ]
        return [item for *_, item in sorted(timed, key=lambda each: each[:3])]


def _next_matches(row: Sequence[Quotation | None]) -> list[int]:
    """Return, for each index `i` of `row`, the index of the first match (an entry that is not None) at or after `i`.

    Without such a match, the entry for `i` is `len(row)`. The list has one more entry at the end, which is `len(row)`.
    """
    found = [len(row)] * (len(row) + 1)
    for index in range(len(row) - 1, -1, -1):
        found[index] = found[index + 1] if row[index] is None else index
    return found


def _quote(item: PlacedStep | PlacedCall, test: StepTest | CallTest | None) -> Quotation | None:
    """Return a quotation of a step or call that matches a test; None if it does not match.

    A test for steps never matches a call, and a test for calls never matches a step.
    """
    if isinstance(item, PlacedStep) and isinstance(test, StepTest):
        step = item.step
        if test.status is not None and step.status is not test.status:
            return None
        tests = {
            "output_summary": test.output,
            "error_message": test.error,
            "input_summary": test.input,
            "name": test.name,
            "agent_name": test.agent,
        }
        shown = quotable_field(step, "output_summary", "error_message", "name")
        return _matched(Quotation(EvidenceKind.STEP, step, shown), tests)
    if isinstance(item, PlacedCall) and isinstance(test, CallTest):
        call = item.call
        if test.status is not None and call.status is not test.status:
            return None
        if test.status_code is not None and not test.status_code.holds(call.status_code):
            return None
        tests = {
            "result_summary": test.result,
            "error_message": test.error,
            "args_json": test.arguments,
            "tool_name": test.tool,
        }
        return _matched(Quotation(EvidenceKind.TOOL_CALL, call, quotable_field(call, "args_json", "tool_name")), tests)
    return None


def _matched(default: Quotation, tests: dict[str, str | None]) -> Quotation | None:
    """Test fields of an object by patterns; return a quotation of the first tested field if all of them match.

    Return None if a tested field does not match. If no field is tested, return `default`, but None if the field that
    `default` quotes has no text.

    Args:
        default: a quotation of the object.
        tests: `{name of a field: pattern}`. A field with the pattern None is not tested.
    """
    found = None
    for field, pattern in tests.items():
        if pattern is None:
            continue
        span = find(pattern, field_text(default.source, field))
        if span is None:
            return None
        found = found or Quotation(default.kind, default.source, field, *span)
    return found or (default if field_text(default.source, default.field) else None)


def _event(event: GuardrailEvent, test: GuardrailTest) -> Quotation | None:
    default = Quotation(EvidenceKind.GUARDRAIL_EVENT, event, quotable_field(event, "message", "type"))
    return _matched(default, {"message": test.message, "type": test.type})


def _line(quote: Quotation) -> str:
    text = field_text(quote.source, quote.field) or ""
    return text[quote.start : quote.end] if quote.end else text[:2_000]


def _tool_of(quote: Quotation) -> str | None:
    return quote.source.tool_name if isinstance(quote.source, ToolCall) else None


def _similarity(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / (len(one | other) or 1)


def lines_of(seen: SeenBehaviour) -> Iterator[str]:
    """Yield one line for each place that shows a behaviour (pattern), such as `tool call [c1], args_json: …`."""
    for quote in seen.quotes:
        source = quote.source
        name = next(
            (
                getattr(source, key)
                for key in ("call_id", "step_id", "event_id", "run_id")
                if getattr(source, key, None)
            ),
            "",
        )
        yield f"{quote.kind.replace('_', ' ')} [{name}], {quote.field}: {_line(quote)}"
