"""Compute the order of a rollout's windows, how many rounds fit into its time budget, and the flags of each arm."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

from relab.flags.models import ACTUATORS
from relab.rollouts.errors import SubjectError
from relab.rollouts.models import Arm
from relab.rollouts.plans.models import MAX_ROUNDS, Measurement, Plan, WindowOrder

Document = dict[str, dict[str, Any]]
"""Flags as `{section: {field: value}}`."""

_FLOW_ARMS: Final = frozenset({Arm.B, Arm.C})
_ROUTING_ARMS: Final = frozenset({Arm.B, Arm.D})


@dataclass(frozen=True, slots=True)
class PlannedWindow:
    """A planned measurement of one arm (set of flags), with its number in the rollout and its round, both from 0.

    A round has one measurement of each arm.
    """

    index: int
    round: int
    arm: Arm


def arms_of(plan: Plan) -> tuple[Arm, ...]:
    """Return the arms (the sets of flags to compare) of a plan, in order; each round measures each arm once."""
    return tuple(Arm) if plan.experiment.factorial else (Arm.A, Arm.B)


def windows_of(plan: Plan, rounds: int, rollout_id: str) -> tuple[PlannedWindow, ...]:
    """Return the windows of the first `rounds` rounds of a rollout, in the order of their measurement.

    A window is one measurement of an arm (set of flags); a round has one window of each arm.

    With `order: random`, the order is drawn with the plan's seed and the rollout's id as the random seed. It therefore
    differs between rollouts of the same plan.
    """
    # Otherwise, a regular rhythm of the service could distort all rollouts in the same way.
    arms = arms_of(plan)
    return tuple(
        PlannedWindow(number * len(arms) + place, number, arm)
        for number in range(rounds)
        for place, arm in enumerate(_order(plan.experiment, arms, number, rollout_id))
    )


def _order(experiment: Measurement, arms: tuple[Arm, ...], number: int, rollout_id: str) -> tuple[Arm, ...]:
    if experiment.order is WindowOrder.RANDOM:
        # A generator for each round, so that the order of a round does not depend on the number of rounds.
        draw = random.Random(f"rollout:{rollout_id}:{experiment.seed}:{number}")  # noqa: S311 reproducible on purpose
        return tuple(draw.sample(arms, len(arms)))
    is_reversed = experiment.order is WindowOrder.ABBA and number % 2 == 1
    return arms[::-1] if is_reversed else arms


def blind_spots(plan: Plan) -> tuple[str, ...]:
    """Return one sentence if the figures of a plan cannot show a carry-over; an empty tuple if they can.

    A carry-over means that changes of flags take effect late. With the order `abab`, a delay of one window
    (measurement) swaps the arms: each arm is measured with the flags of the other one, and a harmful change looks like
    an improvement. With `abba`, a delay of two windows does the same. Four arms (`factorial`) hide a delay too. Live
    traffic and the order `random` with two arms give no sentence.
    """
    measured = plan.experiment
    if plan.subject.live or (measured.order is WindowOrder.RANDOM and not measured.factorial):
        return ()
    reason = "four arms" if measured.factorial else f"the order `{measured.order.value}`"
    remedy = "without `factorial`" if measured.factorial else "with `order: random`"
    sentence = (
        f"With {reason}, the figures cannot show whether the service applies changes late, so a harmful change may "
        f"pass. Check that changes are in force within `warmup_sec`, or measure {remedy}."
    )
    return (sentence,)


def window_cost_s(plan: Plan) -> float:
    """Return how long one measurement of one arm (set of flags) takes, with the warm-up before it, in seconds."""
    return plan.experiment.warmup_sec + plan.experiment.window_sec


def round_cost_s(plan: Plan) -> float:
    """Return how long one round takes, with its warm-ups and the waits for a metric, in seconds.

    A round has one measurement of each arm (set of flags). With live traffic, all arms are measured at the same time.
    The time for setting flags and for checks is not included.
    """
    metric = plan.subject.metric
    wait_s = 0.0 if metric is None else metric.delay_s
    return (window_cost_s(plan) + wait_s) * (1 if plan.subject.live else len(arms_of(plan)))


def rounds_that_fit(plan: Plan) -> int:
    """Return the greatest number of whole rounds within the plan's two limits of time.

    A round has one measurement of each arm (set of flags).

    The limits are `time_budget` for the whole rollout, and `per_combo_cap` for each arm. The number is at most
    `MAX_ROUNDS`. The time for setting flags and for checks is not included.
    """
    limits = [MAX_ROUNDS]
    if plan.time_budget:
        limits.append(int(plan.time_budget / round_cost_s(plan) + 1e-9))
    if plan.per_combo_cap:
        limits.append(int(plan.per_combo_cap / window_cost_s(plan) + 1e-9))
    return min(limits)


def flags_of(plan: Plan, arm: Arm, before: Document) -> Document:
    """Return the flags to set for an arm (set of flags) of a plan about flow control and routing, as a JSON document.

    The document has all fields that the plan changes in any arm, and no others.

    Args:
        plan: the plan.
        arm: the arm; A has the flags from before the rollout.
        before: the flags from before the rollout, as the service returns them.

    Raises:
        SubjectError: the service returns no value of a field that the plan changes.
    """
    experiment = plan.experiment
    changed: Document = {}
    control, routing = _control(experiment), _routing(experiment)
    for section, fields, arms in (("control", control, _FLOW_ARMS), ("routing", routing, _ROUTING_ARMS)):
        if fields:
            _require_fields(before[section], section, fields)
            changed[section] = fields if arm in arms else {name: before[section][name] for name in fields}
    return changed


def _require_fields(present: dict[str, Any], section: str, fields: dict[str, Any]) -> None:
    missing = [f"{section}.{name}" for name in fields if name not in present]
    if missing:
        # Without these fields, arm A could not be set, and a rollback could not restore them.
        knob = "flow_policy" if section == "control" else "routing_mode"
        raise SubjectError(
            f"The flags of the service have no {', '.join(missing)}, which the plan changes, so they could not be restored.",
            remedy=f"Set these flags once, or leave them as they are: experiment.{knob}: keep.",
        )


def _control(experiment: Measurement) -> dict[str, Any]:
    if experiment.flow_policy == "keep":
        return {}
    if experiment.flow_policy == "off":
        return {"enabled_actuators": []}
    return {
        "policy": experiment.flow_policy,
        "target_p95_ms": experiment.target_p95,
        "max_concurrency": experiment.conc_cap,
        "max_batch_size": experiment.batch_cap,
        # After an earlier rollback, no actuator may be enabled; the four fields above then have no effect without this
        # one.
        "enabled_actuators": list(ACTUATORS),
    }


def _routing(experiment: Measurement) -> dict[str, Any]:
    if experiment.routing_mode == "keep":
        return {}
    if experiment.routing_mode == "rules":
        return {"enabled": True, "policy": "rules", "topk_threshold": experiment.topk_threshold}
    return {"enabled": False, "manual_backend": experiment.routing_mode}
