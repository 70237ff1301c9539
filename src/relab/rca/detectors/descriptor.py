"""The descriptor of a failure category: everything that the analysis and its reports need to know about it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from relab.rca.detectors.explanation import Explanation
from relab.rca.detectors.problems import DetectedProblem
from relab.rca.evidence import RunView
from relab.rca.models import ActionItem, Category

ActionType: TypeAlias = Literal["code_change", "config_change", "prompt_change", "monitoring", "process"]
Priority: TypeAlias = Literal["high", "medium", "low"]


def _explains_nothing(_problem: DetectedProblem, _view: RunView) -> Explanation | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryDescriptor:
    """One failure category: how it is detected, named, ranked and repaired.

    Attributes:
        detect: yields the problems of this category in a run; pure.
        title: the name of the category for people; a hypothesis is called "<title> Root Cause".
        cause: completes the sentence "Tool call failed due to ...".
        clause: completes the sentence "The run failed because ..."; `{subject}` is the tool, the step or "it".
        names: matches English names of the category in lower-case text. A sentence of a language model is removed if
            it names a category that is not in the report.
        checks: how a person can verify the hypothesis.
        checks_by_detail: `{detail: checks}`; for a problem with this detail, these checks replace `checks`.
        actions: what to change, the most effective action first.
        causes_by_detail: `{detail: text}`; for a problem with this detail, the text replaces `cause`.
        explain: returns the explanation of a problem; None if there is nothing to add.
        advice_opening: the words that begin the text of the first action, before the facts of the run. The AgentOps
            contract (a specification of reports that relab follows) prescribes them; empty if it prescribes none.
        is_external: whether such failures come from outside of the agent, so that a changed prompt cannot cause them.
        is_general: whether a problem of this category is ranked after problems of other categories at the same time.
        may_cause: None if problems of this category are errors. If they are behaviour of the agent (such as loops), the
            categories of the errors that they may cause.
    """

    category: Category
    detect: Callable[[RunView], Iterable[DetectedProblem]]
    title: str
    cause: str
    clause: str
    names: re.Pattern[str]
    checks: tuple[str, ...]
    actions: tuple[ActionItem, ...]
    checks_by_detail: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    causes_by_detail: Mapping[str, str] = dataclasses.field(default_factory=dict)
    explain: Callable[[DetectedProblem, RunView], Explanation | None] = _explains_nothing
    advice_opening: str = ""
    is_external: bool = False
    is_general: bool = False
    may_cause: frozenset[Category] | None = None


def action(type_: ActionType, priority: Priority, title: str, description: str) -> ActionItem:
    """Build an action item that cites no evidence yet."""
    return ActionItem(type=type_, title=title, description=description, priority=priority)
