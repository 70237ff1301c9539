"""Find differences between a failed run and runs that succeeded (passing runs). Pure.

A difference counts only if at least 80 % of the passing runs show it. A minimum number of runs must show it, too: two
if the passing runs have the same task as the failed run, five if they only have the same version.

The first different call is an exception. Only the most similar passing run must show it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from relab.rca.evidence import PlacedCall, Quotation, RunView, field_text
from relab.rca.models import EvidenceKind
from relab.rca.passing_models import PassingDifferenceKind
from relab.telemetry.past_models import PassedCall, PassingRun, PassingRuns

MAX_DIFFERENCES: Final = 5
MIN_RUNS_OF_TASK: Final = 2
MIN_RUNS_OF_VERSION: Final = 5
MIN_SHARE: Final = 0.8
MAX_VALUE_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class FoundDifference:
    """A difference between the failed run and passing runs (runs that succeeded).

    Attributes:
        kind: the kind of the difference.
        sentence: what the passing runs did, and what the failed run did.
        tool_name: the tool that was called differently; None if the answer differs.
        place: the call of the failed run that differs, or before which a call is missing; None if there is no such call.
        runs: the number of passing runs that show the difference.
        quotes: quotations that show the difference, from a passing run, from the failed run, or from both.
    """

    kind: PassingDifferenceKind
    sentence: str
    tool_name: str | None
    place: PlacedCall | None
    runs: int
    quotes: tuple[Quotation, ...]


def compare(view: RunView, passing: PassingRuns) -> tuple[FoundDifference, ...]:
    """Return at most five differences between a failed run and runs that succeeded (passing runs).

    They are in the order of their kinds: missing tools, arguments, additional tools, order of calls, answer, first
    different call.
    """
    comparison = _Comparison(view, passing)
    return tuple(islice(comparison.differences(), MAX_DIFFERENCES))


class _Comparison:
    def __init__(self, view: RunView, passing: PassingRuns) -> None:
        self._view = view
        self._runs = [run for run in passing.runs if run.calls or run.answer]
        least = MIN_RUNS_OF_TASK if passing.same_task else MIN_RUNS_OF_VERSION
        self._needed = max(least, math.ceil(MIN_SHARE * len(self._runs)))
        of_its_kind = "of this variant" if passing.of_trial else "of this version"
        self._of = "of this task" if passing.same_task else of_its_kind
        # Tools whose calls failed are included, because the failed run did call them.
        self._own: dict[str, list[PlacedCall]] = {}
        for placed in view.calls:
            self._own.setdefault(placed.call.tool_name, []).append(placed)
        self._firsts = [_first_calls(run) for run in self._runs]
        self._same_task = passing.same_task

    def differences(self) -> Iterator[FoundDifference]:
        if len(self._runs) < self._needed:
            return
        tools = dict.fromkeys(tool for firsts in self._firsts for tool in firsts)
        yield from filter(None, map(self._missing, tools))
        for tool in tools:
            yield from self._arguments(tool)
        yield from self._extra(tools)
        yield from filter(None, (self._order(list(tools)), self._answer(), self._divergence()))

    def _missing(self, tool: str) -> FoundDifference | None:
        having = [run for run, firsts in zip(self._runs, self._firsts, strict=True) if tool in firsts]
        if tool in self._own or len(having) < self._needed:
            return None
        after = self._next_common(tool)
        when = "" if after is None else f" before {_code(after.call.tool_name)}"
        call = _first_calls(having[0])[tool][1]
        return FoundDifference(
            PassingDifferenceKind.MISSING_TOOL,
            f"{self._who(len(having))} called {_code(tool)}{when}; this one did not.",
            tool,
            after,
            len(having),
            (self._quote(call, "tool_name", len(having)), *_own_quote(after)),
        )

    def _next_common(self, tool: str) -> PlacedCall | None:
        """Return the failed run's first call of a tool that passing runs start to call later than `tool`.

        All passing runs that call `tool` must call this other tool, for the first time after their first call of
        `tool`. If several tools qualify, the one that the failed run called first is chosen. Return None if there is
        no such tool.
        """
        with_tool = [firsts for firsts in self._firsts if tool in firsts]
        for other, calls in self._own.items():
            if all(other in firsts and firsts[tool][0] < firsts[other][0] for firsts in with_tool):
                return calls[0]
        return None

    def _arguments(self, tool: str) -> Iterator[FoundDifference]:
        if tool not in self._own:
            return
        calls = [placed.call for placed in self._own[tool]]
        if any(call.args_json is None and call.args_hash is not None for call in calls):
            # Only the hash was recorded, so the arguments are not known.
            return
        own = _values(call.args_json for call in calls)
        sent = {name for call in calls if isinstance(call.args_json, dict) for name in call.args_json}
        theirs = [_values(call.args_json for call in run.calls if call.tool_name == tool) for run in self._runs]
        for argument in dict.fromkeys(name for values in theirs for name in values):
            counts: dict[str, list[int]] = {}
            for index, values in enumerate(theirs):
                for value in values.get(argument, ()):
                    counts.setdefault(value, []).append(index)
            agreed = next((value for value, having in counts.items() if len(having) >= self._needed), None)
            if agreed is None or agreed in own.get(argument, ()):
                continue
            having = counts[agreed]
            call = next(
                call
                for call in self._runs[having[0]].calls
                if call.tool_name == tool and agreed in _values([call.args_json]).get(argument, ())
            )
            place = self._own[tool][0]
            if argument in own:
                said = f"with {_code(next(iter(own[argument])))}"
            else:
                said = "with another value" if argument in sent else "without it"
            yield FoundDifference(
                PassingDifferenceKind.ARGUMENT,
                f"{self._who(len(having))} called {_code(tool)} with {_code(argument)} = {_code(agreed)}; this one {said}.",
                tool,
                place,
                len(having),
                (self._quote(call, "args_json", len(having), agreed), *_own_quote(place, "args_json")),
            )

    def _extra(self, tools: Mapping[str, None]) -> Iterator[FoundDifference]:
        if not self._same_task:
            return
        for tool, calls in self._own.items():
            if tool not in tools:
                count = len(self._runs)
                yield FoundDifference(
                    PassingDifferenceKind.EXTRA_TOOL,
                    f"This run called {_code(tool)}; none of {count} passing runs {self._of} did.",
                    tool,
                    calls[0],
                    count,
                    _own_quote(calls[0]),
                )

    def _order(self, tools: Sequence[str]) -> FoundDifference | None:
        own = {tool: calls[0].position for tool, calls in self._own.items()}
        for earlier in tools:
            for later in tools:
                if earlier not in own or later not in own or own[earlier] < own[later] or earlier == later:
                    continue
                having = [
                    run
                    for run, firsts in zip(self._runs, self._firsts, strict=True)
                    if earlier in firsts and later in firsts and firsts[earlier][0] < firsts[later][0]
                ]
                if len(having) >= self._needed:
                    place, call = self._own[later][0], _first_calls(having[0])[earlier][1]
                    said = f"called {_code(earlier)} before {_code(later)}; this one called it later."
                    return FoundDifference(
                        PassingDifferenceKind.ORDER,
                        f"{self._who(len(having))} {said}",
                        earlier,
                        place,
                        len(having),
                        (self._quote(call, "tool_name", len(having)), *_own_quote(place)),
                    )
        return None

    def _answer(self) -> FoundDifference | None:
        shapes: dict[str, list[PassingRun]] = {}
        for run in self._runs:
            shapes.setdefault(_shape(run.answer), []).append(run)
        shape, having = max(shapes.items(), key=lambda item: len(item[1]), default=("", []))
        own = _shape(self._view.run.answer)
        if len(having) < self._needed or shape in {own, "no answer"} or "text" in {shape} - {own, "no answer"}:
            return None
        source = having[0]
        quote = Quotation(EvidenceKind.PASSING_RUN, source, "answer", attributes={"runs": len(having)})
        return FoundDifference(
            PassingDifferenceKind.ANSWER,
            f"{self._who(len(having))} gave {shape}; this one gave {own}.",
            None,
            None,
            len(having),
            (quote,),
        )

    def _divergence(self) -> FoundDifference | None:
        """Compare the failed run with the most similar passing run; return the first different call.

        The most similar run has the longest common prefix of tool names. After this prefix, the failed run ended or
        called another tool. Return None if all calls of the passing run are in the prefix, if the failed run has no
        calls, or if the passing runs do not have the same task as the failed run.
        """
        own = [placed.call.tool_name for placed in self._view.calls]
        if not self._same_task or not own:
            return None
        common = [_common([call.tool_name for call in run.calls], own) for run in self._runs]
        best = max(range(len(common)), key=lambda index: (common[index], -index))
        run, at = self._runs[best], common[best]
        if at >= len(run.calls) or not run.calls:
            return None
        place = self._view.calls[at] if at < len(own) else None
        said = "ended" if place is None else f"called {_code(place.call.tool_name)}"
        call = run.calls[at]
        return FoundDifference(
            PassingDifferenceKind.FIRST_DIVERGENCE,
            f"The most similar passing run called {_code(call.tool_name)} as call {at + 1}; this one {said}.",
            call.tool_name,
            place,
            1,
            (self._quote(call, "tool_name", 1), *_own_quote(place)),
        )

    def _who(self, count: int) -> str:
        of = "" if count == len(self._runs) else f" of {len(self._runs)}"
        return f"{count}{of} passing runs {self._of}"

    @staticmethod
    def _quote(call: PassedCall, field: str, runs: int, value: str = "") -> Quotation:
        start = max((field_text(call, field) or "").find(value), 0)
        return Quotation(
            EvidenceKind.PASSING_RUN,
            call,
            field,
            start,
            start + len(value),
            attributes={"call_id": call.call_id, "runs": runs},
        )


def _own_quote(place: PlacedCall | None, field: str = "tool_name") -> tuple[Quotation, ...]:
    if place is None or not field_text(place.call, field):
        return ()
    return (Quotation(EvidenceKind.TOOL_CALL, place.call, field),)


def _first_calls(run: PassingRun) -> dict[str, tuple[int, PassedCall]]:
    """Return the first call of each tool in a passing run, as `{tool: (index, call)}`."""
    found: dict[str, tuple[int, PassedCall]] = {}
    for position, call in enumerate(run.calls):
        found.setdefault(call.tool_name, (position, call))
    return found


def _values(arguments: Iterable[object]) -> dict[str, dict[str, None]]:
    """Return the values of each argument in several calls of a tool, as `{argument: set of its values as JSON}`.

    Long values are left out.
    """
    found: dict[str, dict[str, None]] = {}
    for each in arguments:
        if not isinstance(each, dict):
            continue
        for name, value in each.items():
            text = json.dumps(value, ensure_ascii=False)
            if len(text) <= MAX_VALUE_CHARS:
                found.setdefault(name, {})[text] = None
    return found


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the common prefix of two sequences."""
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )


def _shape(answer: str | None) -> str:
    text = (answer or "").strip()
    if not text:
        return "no answer"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "text"
    return "JSON" if isinstance(value, dict | list) else "a number" if isinstance(value, int | float) else "text"


def _code(text: str) -> str:
    """Return `text`, taken from a run, as inline code of Markdown: on one line, cut after 80 characters."""
    line = " ".join(text.replace("`", "'").split())
    # Backticks become apostrophes, so that a hostile text is shown as data and not as Markdown.
    return f"`{line if len(line) <= 80 else line[:80] + '…'}`"
