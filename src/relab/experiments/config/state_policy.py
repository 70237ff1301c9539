"""The state policy: which trials continue from the workspace of an earlier trial. No other module interprets the policy."""

from __future__ import annotations

from enum import StrEnum


class StatePolicy(StrEnum):
    """The rule for which earlier trial a trial takes its workspace and state from.

    Trials that continue one from the other form a chain: each trial starts with the workspace and state that the
    previous trial of the chain left.
    """

    ISOLATE_PER_TRIAL = "isolate_per_trial"
    PERSIST_PER_TASK = "persist_per_task"
    ACCUMULATE = "accumulate"

    @property
    def carries_state(self) -> bool:
        """Whether a trial continues from the workspace and state of the previous trial of its chain."""
        return self is not StatePolicy.ISOLATE_PER_TRIAL

    @property
    def task_model(self) -> str:
        """`dependent` or `independent`: AgentLab's word for whether trials continue from each other."""
        return "dependent" if self.carries_state else "independent"

    def chain_id(self, variant_id: str, task_id: str, repl_idx: int) -> str:
        """Return the id of a trial's chain. Each trial of a chain continues from the trial before it in the chain.

        Args:
            variant_id: the id of the variant; it contains no slash.
            task_id: the id of the task; it contains no slash.
            repl_idx: the number of the repeat, from 0.
        """
        if self is StatePolicy.ACCUMULATE:
            return variant_id
        if self is StatePolicy.PERSIST_PER_TASK:
            return f"{variant_id}/{task_id}"
        return f"{variant_id}/{task_id}/{repl_idx}"
