"""The judgement of a rollout from its measured windows. Pure: windows and a plan go in, a verdict comes out.

`docs/rollouts.md` says how to read a verdict; `evals/judge.py` measures how often it is wrong.
"""

from relab.rollouts.judging.early import EarlyLook, early_look, plan_rounds, rounds_in_all
from relab.rollouts.judging.quantiles import window_quantile_ms
from relab.rollouts.judging.verdict import effect_so_far, effects_by_round, judge

__all__ = [
    "EarlyLook",
    "early_look",
    "effect_so_far",
    "effects_by_round",
    "judge",
    "plan_rounds",
    "rounds_in_all",
    "window_quantile_ms",
]
