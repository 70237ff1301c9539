"""Compute the separate effects of flow control and routing, from rounds with all four combinations of their old and new values."""

from __future__ import annotations

from typing import Final

from relab.rollouts.judging.effects import effect_pct, running_effect
from relab.rollouts.judging.rollout_data import RolloutData
from relab.rollouts.models import Arm, Effect, FactorEffects

_ALPHA: Final = 0.025


def factor_effects(data: RolloutData) -> FactorEffects | None:
    """Return the effects of flow control and of routing on the judged figure, and their interaction.

    The judged figure is the P95 latency, or the metric that the plan names. Return None if it is missing in a
    measurement, or if no round has a measurement of all four arms (sets of flags).
    """
    # The effect of a factor is the mean of its effects with the old and the new value of the other factor.
    flow = _effect(data, (Arm.A, Arm.D), (Arm.C, Arm.B))
    routing = _effect(data, (Arm.A, Arm.C), (Arm.D, Arm.B))
    # The logarithm of a ratio of ratios is the difference of two sums; pairs hold their means, hence the factor 2.
    interaction = _effect(data, (Arm.C, Arm.D), (Arm.A, Arm.B), scale=2.0)
    if flow is None or routing is None or interaction is None:
        return None
    return FactorEffects(
        flow=flow, routing=routing, interaction=interaction, attribution=_attribution(flow, routing, interaction)
    )


def _effect(data: RolloutData, without: tuple[Arm, Arm], having: tuple[Arm, Arm], scale: float = 1.0) -> Effect | None:
    if not data.rounds or not set(Arm) <= data.rounds[0].keys():
        return None
    pairs = data.pairs(without, having)
    return None if pairs is None else effect_pct(running_effect(pairs), alpha=_ALPHA, scale=scale)


def _attribution(flow: Effect, routing: Effect, interaction: Effect) -> str:
    gains = [name for name, effect in (("flow control", flow), ("routing", routing)) if _is_gain(effect)]
    if len(gains) == 2:
        larger = "flow control" if flow.estimate_pct < routing.estimate_pct else "routing"
        sentence = f"Both flow control and routing gave a gain; the gain of {larger} is larger."
    elif gains:
        sentence = f"The gain comes from {gains[0]}; the other change shows no gain."
    else:
        sentence = "Neither flow control nor routing alone shows a gain."
    if interaction.low_pct is None or interaction.high_pct is None:
        return sentence
    if interaction.high_pct < 0:
        return f"{sentence} Together they gain more than each alone suggests."
    if interaction.low_pct > 0:
        return f"{sentence} Together they gain less than each alone suggests."
    return sentence


def _is_gain(effect: Effect) -> bool:
    return effect.high_pct is not None and effect.high_pct < 0
