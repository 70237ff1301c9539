"""Features: numbers that describe each unit (step or tool call) of a run; ranking models read them.

Features describe what the unit is, what its text says, and what came before and after it. `WORDS` has the name of each
feature and the words by which a report describes it. No feature uses a label or a time. Ids are used only to find the
enclosing step of a unit.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from relab.rca.ranking.texts import (
    COUNTED,
    SIGNS,
    TextTokens,
    code_numbers,
    count_of,
    is_promise,
    jaccard,
    overlap,
    tokens_of,
)
from relab.rca.ranking.turns import coordinator_of
from relab.rca.ranking.units import Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LIST = re.compile(r"^\s{0,8}(?:\d{1,2}[.)]|[-*•])\s", re.MULTILINE)
_SEEN_BY_PREVIOUS = ("gives_up", "assumes", "code", "concludes", "error_word", "asks", "question", "unsupported")
"""Features of the step after a unit that are also features of the unit: they show how the next step reacts to it."""

_TAG = re.compile(r"</?[a-z][a-z_]{1,20}>")
MAX_TOOLS = 40
"""With more names of tools and agents than this, their mentions are not counted."""

WORDS: Final = MappingProxyType(
    {
        "at_0": "it begins the run",
        "at_1": "it is the second step, the first that reacts to the task",
        "at_2": "it is the third step",
        "at_3": "it is the fourth step",
        "at_4": "it is the fifth step",
        "late": "its place in the run",
        "last": "it is the last step",
        "before_last": "it is the last step but one",
        "order": "how far into the run it is",
        "speaker_first": "it is the first contribution of its agent",
        "speaker_turn": "how often its agent has spoken before",
        "speaker_share": "how much of the run its agent has",
        "speaker_same": "the same agent acted before it",
        "executor": "it only reports how code or a tool ran",
        "coordinator": "its agent leads the team",
        "after_coordinator": "it acts on a request of the agent that leads the team",
        "after_executor": "it follows a result of code or a tool",
        "hands_over": "it names another agent, to which it hands over",
        "call": "it is a tool call",
        "length": "the length of its text",
        "length_rank": "its text is long for this run",
        "empty": "it has no text",
        "asked_length": "the length of what it was given",
        "error": "it reports an error",
        "failed_call": "a tool call of it failed",
        "in_failed_step": "the step around it failed",
        "next_executor": "code or a tool ran right after it",
        "next_error": "an error follows it directly",
        "next_asked_error": "the next step was given an error to react to",
        "after_error": "it follows an error",
        "before_first_error": "the first error of the run follows from it",
        "errors_before": "the errors before it",
        "errors_after": "the errors after it",
        "no_error_at_0": "it begins a run without errors",
        "no_error_at_1": "it is the first reaction to the task in a run without errors",
        "no_error_late": "its place in a run without errors",
        "like_task": "it repeats the words of the task",
        "like_previous": "it repeats the step before it",
        "like_own": "it repeats an earlier step of the same agent",
        "like_next": "the next step repeats it",
        "like_instruction": "how far it follows the words of its instruction",
        "new_numbers": "it states numbers that occur nowhere before",
        "new_names": "it states names that occur nowhere before",
        "new_number_share": "how many of its numbers occur nowhere before",
        "new_name_share": "how many of its names occur nowhere before",
        "new_word_share": "how many of its words are new",
        "unsupported": "its numbers are not in the result before it",
        "reused": "later steps take over names or numbers that it was the first to state",
        "in_answer": "it is the first to state names or numbers of the final answer",
        "code": "it contains code",
        "question": "it asks a question",
        "assumes": "it assumes or simulates values",
        "gives_up": "it says what it could not do",
        "concludes": "it draws a conclusion",
        "plans": "it plans",
        "asks": "it asks another agent for something",
        "links": "it contains links",
        "error_word": "it speaks of an error",
        "screenshot": "it describes a page",
        "thought": "it is written in the form of thought and action",
        "json": "it is written as JSON",
        "lists": "it lists points",
        "result_in_answer": "the result of its code has names or numbers of the final answer",
        "next_gives_up": "the next step says what it could not do",
        "next_assumes": "the next step assumes or simulates values",
        "next_code": "the next step contains code",
        "next_concludes": "the next step draws a conclusion",
        "next_error_word": "the next step speaks of an error",
        "next_asks": "the next step asks another agent for something",
        "next_question": "the next step asks a question",
        "next_unsupported": "the numbers of the next step are not in it",
        "depth": "how deep it is nested",
        "part": "its place among the parts of the step around it",
        "parts": "the number of parts of the step around it",
        "results_before": "the results of tools or code before it",
        "concludes_early": "it draws a conclusion before any tool or code gave a result",
        "missing_tag": "it lacks a marker that its instruction asks for",
        "names_tool": "it names a tool or an agent of the run",
        "ignores_tool": "its instruction names a tool or an agent that it does not use",
        "asked_error": "it was given an error to react to",
        "asked_plan": "it was given a plan",
        "asked_same": "it was asked the same as an earlier step",
        "same_call": "the same call with the same arguments was made before",
        "next_same_speaker": "its agent goes on",
        "checks": "it speaks of checking",
        "changes": "it speaks of changing what was done",
        "by_hand": "it speaks of work by hand",
        "promises": "it announces what it is going to do and gives no figures and no code",
        "written_data": "its code has lists of numbers written into it",
        "code_new_numbers": "its code has numbers that occur nowhere before",
    }
)
"""The features in the order of their columns, and what the report says about each."""

NAMES: Final = tuple(WORDS)
MANNERS: Final = frozenset({"checks", "changes", "by_hand", "promises", "written_data", "code_new_numbers"})
"""Features that only models of steps read: they were measured on conversations and not on problems of traces."""

_COLUMN: Final = MappingProxyType({name: number for number, name in enumerate(NAMES)})


def features_of(units: Sequence[Unit], answer: str | None = None) -> NDArray[np.float64]:
    """Return a table with one row for each unit (step or tool call) and one column for each feature of `NAMES`.

    `answer` is the final answer of the run; None if it is not known.
    """
    import numpy as np  # noqa: PLC0415 - a run of an unknown source needs no numpy

    table = np.zeros((len(units), len(NAMES)))
    if not units:
        return table
    tokens = [tokens_of(unit.text) for unit in units]
    _describe_places(table, units)
    _describe_errors(table, units)
    _describe_instructions(table, units)
    _describe_words(table, units, tokens, _answer_facts(answer, units, tokens))
    return table


def _answer_facts(answer: str | None, units: Sequence[Unit], tokens: Sequence[TextTokens]) -> set[str]:
    """Return the names and numbers in the final answer of a run.

    If `answer` is None or empty, a text of the run replaces it: the text of the last unit that has at least two names or
    numbers. Units (steps or tool calls) that only have the output of executed code or of a tool are skipped. `tokens`
    has the words, numbers and names of each unit's text.
    """
    if answer:
        return tokens_of(answer).facts
    told = (item.facts for unit, item in zip(reversed(units), reversed(tokens), strict=True) if not unit.is_executor)
    return next((facts for facts in told if len(facts) > 1), set())


def _describe_places(table: NDArray[np.float64], units: Sequence[Unit]) -> None:
    count = len(units)
    shares = Counter(unit.speaker for unit in units)
    coordinator = coordinator_of(units)
    speakers = {speaker for speaker in shares if len(speaker) > 3}
    spoken: Counter[str] = Counter()
    lengths = sorted(len(unit.text) for unit in units)

    for index, unit in enumerate(units):
        before = units[index - 1] if index else None
        values = {
            "late": index / max(count - 1, 1),
            "last": index == count - 1,
            "before_last": index == count - 2,
            "order": math.log1p(index),
            "speaker_first": not spoken[unit.speaker],
            "speaker_turn": math.log1p(spoken[unit.speaker]),
            "speaker_share": shares[unit.speaker] / count,
            "speaker_same": before is not None and before.speaker == unit.speaker,
            "executor": unit.is_executor,
            "coordinator": unit.speaker == coordinator,
            "after_coordinator": before is not None
            and coordinator not in {None, unit.speaker}
            and before.speaker == coordinator,
            "after_executor": before is not None and before.is_executor,
            "hands_over": any(name in unit.text or name in unit.name for name in speakers if name != unit.speaker)
            if len(speakers) <= 20
            else False,
            "call": unit.is_call,
            "length": math.log1p(len(unit.text)),
            "length_rank": bisect_left(lengths, len(unit.text)) / count,
            "empty": not unit.text.strip(),
            "asked_length": math.log1p(len(unit.asked)),
        }
        if index < 5:
            values[f"at_{index}"] = True
        spoken[unit.speaker] += 1
        _fill(table, index, values)


def _describe_instructions(table: NDArray[np.float64], units: Sequence[Unit]) -> None:
    tools = {unit.name for unit in units if len(unit.name) > 3 and unit.is_call}
    tools |= {unit.speaker for unit in units if len(unit.speaker) > 3}
    if len(tools) > MAX_TOOLS:
        tools = set()
    inside = Counter(unit.parent_id for unit in units)
    parts: Counter[str | None] = Counter()
    asked_before: set[tuple[str, str]] = set()
    results = 0
    for index, unit in enumerate(units):
        others = tools - {unit.speaker, unit.name}
        asked = {name for name in others if name in unit.asked}
        used = {name for name in others if name in unit.text}
        key = (unit.name, unit.asked)
        after = units[index + 1] if index + 1 < len(units) else None
        values = {
            "depth": unit.depth,
            "part": math.log1p(parts[unit.parent_id]),
            "parts": math.log1p(inside[unit.parent_id]),
            "results_before": math.log1p(results),
            "missing_tag": any(tag not in unit.text for tag in _TAG.findall(unit.asked)),
            "names_tool": bool(used),
            "ignores_tool": bool(asked - used),
            "asked_error": "error" in unit.asked.lower(),
            "asked_plan": bool(unit.asked) and len(_LIST.findall(unit.asked)) > 2,
            "asked_same": bool(unit.asked) and not unit.is_call and key in asked_before,
            "same_call": bool(unit.asked) and unit.is_call and key in asked_before,
            "next_same_speaker": after is not None and after.speaker == unit.speaker,
        }
        asked_before.add(key)
        parts[unit.parent_id] += 1
        results += unit.is_executor
        _fill(table, index, values)


def _describe_errors(table: NDArray[np.float64], units: Sequence[Unit]) -> None:
    bad = [(unit.is_executor and unit.reports_error) or unit.has_failed_call for unit in units]
    total = sum(bad)
    before = 0
    for index, unit in enumerate(units):
        after = units[index + 1] if index + 1 < len(units) else None
        next_bad = after is not None and bad[index + 1] and after.is_executor
        values = {
            "error": bad[index],
            "failed_call": unit.has_failed_call,
            "in_failed_step": unit.is_in_failed_step,
            "next_executor": after is not None and after.is_executor,
            "next_error": next_bad,
            "next_asked_error": after is not None and "error" in after.asked[:400].lower(),
            "after_error": index > 0 and bad[index - 1],
            "before_first_error": before == 0 and not bad[index] and next_bad,
            "errors_before": math.log1p(before),
            "errors_after": math.log1p(total - before - bad[index]),
            "no_error_at_0": not total and index == 0,
            "no_error_at_1": not total and index == 1,
            "no_error_late": 0.0 if total else index / len(units),
        }
        before += bad[index]
        _fill(table, index, values)


def _describe_words(
    table: NDArray[np.float64], units: Sequence[Unit], tokens: Sequence[TextTokens], answer: set[str]
) -> None:
    task = tokens[0].words if not units[0].asked else tokens_of(units[0].asked).words | tokens[0].words
    later: Counter[str] = Counter()
    for item in tokens:
        later.update(item.facts)
    seen: set[str] = set()
    seen_words: set[str] = set()
    own: dict[str, list[set[str]]] = {}
    instruction: set[str] = set()
    results = 0
    for index, (unit, item) in enumerate(zip(units, tokens, strict=True)):
        before = tokens[index - 1] if index else TextTokens()
        asked = tokens_of(unit.asked) if unit.asked else TextTokens()
        known = seen | asked.facts
        numbers, names = item.numbers - known, item.names - known
        new = numbers | names
        after_result = index > 0 and units[index - 1].is_executor
        values = {
            "like_task": overlap(item.words, task) if index else 0.0,
            "like_previous": jaccard(item.words, before.words),
            "like_own": max((jaccard(item.words, other) for other in own.get(unit.speaker, [])[-8:]), default=0.0),
            "like_next": jaccard(item.words, tokens[index + 1].words) if index + 1 < len(tokens) else 0.0,
            "like_instruction": overlap(item.words, asked.words or instruction),
            "new_numbers": math.log1p(len(numbers)),
            "new_names": math.log1p(len(names)),
            "new_number_share": len(numbers) / len(item.numbers) if item.numbers else 0.0,
            "new_name_share": len(names) / len(item.names) if item.names else 0.0,
            "new_word_share": len(item.words - seen_words) / len(item.words) if item.words else 0.0,
            "unsupported": len(item.numbers - before.numbers) / len(item.numbers)
            if after_result and item.numbers
            else 0.0,
            "reused": math.log1p(sum(later[fact] > 1 for fact in new)),
            "in_answer": len(new & answer) / len(answer) if answer and index else 0.0,
            "lists": math.log1p(len(_LIST.findall(unit.text))),
        }
        lowered = f"{unit.text.lower()}\n"
        for name, marker in SIGNS.items():
            values[name] = marker.is_in(item.words, lowered)
        for name in COUNTED:
            values[name] = math.log1p(count_of(name, lowered))
        listed, in_code = code_numbers(unit.text) if values["code"] else (0, set())
        values["promises"] = not (item.numbers or values["code"] or unit.is_executor) and is_promise(lowered)
        values["written_data"] = math.log1p(listed)
        values["code_new_numbers"] = math.log1p(len(in_code - known))
        values["json"] = lowered.lstrip()[:1] in {"{", "["}
        values["concludes_early"] = not results and values["concludes"]
        results += unit.is_executor
        if index:
            for name in _SEEN_BY_PREVIOUS:
                table[index - 1, _COLUMN["next_" + name]] = values[name]
            if unit.is_executor:
                table[index - 1, _COLUMN["result_in_answer"]] = values["in_answer"]
        seen |= item.facts | asked.facts
        seen_words |= item.words
        own.setdefault(unit.speaker, []).append(item.words)
        if not unit.is_executor:
            instruction = item.words
        _fill(table, index, values)


def _fill(table: NDArray[np.float64], index: int, values: dict[str, float | bool]) -> None:
    for name, value in values.items():
        table[index, _COLUMN[name]] = value
