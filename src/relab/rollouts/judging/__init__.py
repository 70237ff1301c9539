"""Judge a rollout from its measured windows. The functions are pure: they turn windows and a plan into a verdict.

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
