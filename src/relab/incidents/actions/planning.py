"""Choose the next action from the runbook of the most probable cause, without repeating a tried one. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel, ConfigDict

from relab.incidents.actions.catalogue import ActionEntry, Catalogue, ParameterValue, UserImpact
from relab.incidents.actions.records import ExcludedAction, fingerprint
from relab.incidents.diagnosis.candidates import UNKNOWN, Candidate, probability_of_any
from relab.knowledge.models import FactValue, Risk, Runbook, RunbookAction

_PLACE: Final = re.compile(r"\{([A-Za-z0-9_.\-]+)\}")


class ActionPlan(BaseModel):
    """One action to be executed, and the reasons for it; stored as JSON.

    Attributes:
        blast_radius: how many users notice the action.
        parameters: the values of the action's parameters, by name.
        cause: the most probable cause; the action repairs it.
        probability: the probability of `cause`, 0 to 1.
        confidence: the probability, 0 to 1, that this action repairs at least one present cause; besides `cause`, the
            action may repair other causes.
        target: the part of the service that the action changes.
        why: why the action should help, from the runbook.
        effect: the expected effect, from the server's catalogue.
        undo: the name of the action that rolls this action back; None if no action does.
        runbook: the file of the runbook that names the action, or the cause if the file is unknown.
        risk: how harmful the action is if the diagnosed cause is wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cause: str
    probability: float
    confidence: float
    action: str
    action_class: str
    blast_radius: UserImpact
    target: str
    parameters: dict[str, ParameterValue] = {}
    why: str = ""
    effect: str = ""
    undo: str | None = None
    runbook: str = ""
    risk: Risk = Risk.MEDIUM

    @property
    def fingerprint(self) -> str:
        """The digest of the action's name and its parameters; two plans with the same digest are the same action."""
        return fingerprint(self.action, self.parameters)


@dataclass(frozen=True, slots=True)
class Escalation:
    """The result of planning if no action should be tried: a person must take over.

    Attributes:
        reason: the reason, in one sentence.
        left_out: actions that cannot be executed or were tried already, each with the reason. They come from the
            runbook of the most probable cause.
    """

    reason: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanningSettings:
    """How sure a plan must be. If no plan is sure enough, the incident is escalated to a person.

    Attributes:
        min_confidence: `{risk: minimum ActionPlan.confidence}`; the risk is how harmful a wrong action would be.
    """

    min_confidence: Mapping[Risk, float] = field(
        default_factory=lambda: {Risk.LOW: 0.5, Risk.MEDIUM: 0.6, Risk.HIGH: 0.8}
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """An action of a runbook with its parameters filled in.

    If the action cannot be executed, `entry` (its entry in the server's catalogue) is None, and `problem` says why.
    """

    wanted: RunbookAction
    entry: ActionEntry | None = None
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    problem: str = ""

    @property
    def fingerprint(self) -> str:
        """The digest of the action and its parameters; a step and a tried action with the same digest are the same."""
        return fingerprint(self.wanted.action, self.parameters)


def next_plan(
    candidates: Sequence[Candidate],
    runbooks: Sequence[Runbook],
    facts: Mapping[str, FactValue],
    catalogue: Catalogue,
    tried: Collection[ExcludedAction],
    settings: PlanningSettings,
) -> ActionPlan | Escalation:
    """Return the next plan, or an escalation if no action should be tried.

    A cause is refuted if all of its executable actions were tried. Its probability then goes to the other causes.

    Args:
        candidates: the causes with their probabilities, including `UNKNOWN`.
        runbooks: the runbooks of the causes.
        facts: `{name: value}`; each value replaces the placeholder of that name in a runbook's parameters.
        catalogue: the actions that the server offers.
        tried: the actions of this incident that were tried or that the server refused.
        settings: the confidence that a plan needs.
    """
    books = {runbook.cause: runbook for runbook in runbooks}
    steps = {cause: [_step(wanted, facts, catalogue) for wanted in book.actions] for cause, book in books.items()}
    standing = [item for item in candidates if not _is_refuted(steps.get(item.cause, ()), tried)]
    whole = probability_of_any(candidates, {item.cause for item in standing})
    if whole <= 0:
        return Escalation("All actions of the runbooks were tried.")
    best = max(standing, key=lambda item: item.probability)
    book = books.get(best.cause)
    if best.cause == UNKNOWN or book is None:
        return Escalation(_unknown(standing, best, was_refuted=len(standing) < len(candidates)))
    chosen, left_out = _first(steps[best.cause], tried)
    if chosen is None or chosen.entry is None:
        said = "none of its actions is possible" if left_out else "its runbook has no action"
        return Escalation(f"The cause is probably {best.cause}, and {said}.", left_out)
    same = {item.cause for item in standing if chosen.fingerprint in _done_for(steps.get(item.cause, ()))}
    confidence = probability_of_any(candidates, same) / whole
    plan = _plan(chosen.entry, chosen, book, best.probability / whole, confidence)
    least = settings.min_confidence[book.risk]
    if plan.confidence < least:
        reason = (
            f"The cause is {best.cause} with a probability of only {plan.probability:.2f}; for {plan.action}, of a "
            f"runbook with {book.risk.value} risk, at least {least:g} is required."
        )
        return Escalation(reason, left_out)
    return plan


def _unknown(standing: Sequence[Candidate], best: Candidate, *, was_refuted: bool) -> str:
    others = [item.cause for item in standing if item.cause not in {UNKNOWN, best.cause}][:3]
    begin = "The best actions were tried and did not help, and no other" if was_refuted else "No"
    nearest = f"; the nearest are {', '.join(others)}" if others else ""
    return f"{begin} runbook fits what is seen{nearest}."


def _is_refuted(steps: Sequence[_Step], tried: Collection[ExcludedAction]) -> bool:
    """Return whether a cause is refuted: all of its executable actions were tried.

    A cause without an executable action is not refuted. `steps` are the actions of the cause's runbook; `tried` are the
    actions that must not be tried again.
    """
    doable = [step for step in steps if step.entry is not None]
    return bool(doable) and all(_was_tried(step, tried) for step in doable)


def _was_tried(step: _Step, tried: Collection[ExcludedAction]) -> bool:
    """Return whether a step (a runbook's action with its parameters) must be skipped because it was tried.

    An action that the server can undo also counts as tried if it was tried on the same part of the service with other
    parameters.
    """
    if step.entry is None:
        return False
    if any(item.fingerprint == step.fingerprint for item in tried):
        return True
    target = step.entry.target_of(step.parameters)
    # Such an action sets a value; a second execution would set the old value again.
    return step.entry.inverse is not None and any(
        (item.action, item.target) == (step.entry.name, target) for item in tried
    )


def _first(steps: Sequence[_Step], tried: Collection[ExcludedAction]) -> tuple[_Step | None, tuple[str, ...]]:
    left_out = []
    for step in steps:
        if step.entry is None:
            left_out.append(f"{step.wanted.action}: {step.problem}")
        elif _was_tried(step, tried):
            left_out.append(f"{step.wanted.action}: it was tried")
        else:
            return step, tuple(left_out)
    return None, tuple(left_out)


def _done_for(steps: Sequence[_Step]) -> set[str]:
    return {step.fingerprint for step in steps if step.entry is not None}


def _step(wanted: RunbookAction, facts: Mapping[str, FactValue], catalogue: Catalogue) -> _Step:
    entry = catalogue.actions.get(wanted.action)
    if entry is None:
        return _Step(wanted, problem="the action server does not offer it")
    missing = sorted(name for name in _places(wanted) if name not in facts)
    if missing:
        return _Step(wanted, problem=f"the facts {', '.join(missing)} are unknown")
    filled = {name: _filled(value, facts) for name, value in wanted.parameters.items()}
    parameters, problems = entry.fit(filled)
    if problems:
        return _Step(wanted, problem="; ".join(problems))
    return _Step(wanted, entry, parameters)


def _places(wanted: RunbookAction) -> Iterator[str]:
    for value in wanted.parameters.values():
        if isinstance(value, str):
            yield from _PLACE.findall(value)


def _filled(value: FactValue, facts: Mapping[str, FactValue]) -> ParameterValue:
    if not isinstance(value, str):
        return value
    whole = _PLACE.fullmatch(value)
    if whole is not None:
        # A value that is only a placeholder keeps the type of the fact: a number stays a number.
        return facts[whole[1]]
    return _PLACE.sub(lambda found: _word(facts[found[1]]), value)


def _word(value: FactValue) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    # Write whole floats as integers: a process id of seven digits must not get an exponent.
    return str(int(value)) if float(value).is_integer() else str(value)


def _plan(entry: ActionEntry, step: _Step, book: Runbook, probability: float, confidence: float) -> ActionPlan:
    return ActionPlan(
        cause=book.cause,
        probability=min(probability, 1.0),
        confidence=min(confidence, 1.0),
        action=entry.name,
        action_class=entry.action_class,
        blast_radius=entry.blast_radius,
        target=entry.target_of(step.parameters),
        parameters=dict(step.parameters),
        why=step.wanted.why or book.title,
        effect=entry.effect,
        undo=entry.inverse,
        runbook=book.source or book.cause,
        risk=book.risk,
    )
