"""The state policy: which trials continue from the workspace and state of an earlier trial."""

from __future__ import annotations

from enum import StrEnum


class StatePolicy(StrEnum):
    """Which earlier trial a trial takes its workspace and state from.

    In a chain of trials, each trial starts with the workspace and state of the previous trial.

    - `ISOLATE_PER_TRIAL`: there are no chains; each trial starts from the project's snapshot.
    - `PERSIST_PER_TASK`: a chain has the repeats of one task with one variant.
    - `ACCUMULATE`: a chain has all trials of one variant.
    """

    ISOLATE_PER_TRIAL = "isolate_per_trial"
    PERSIST_PER_TASK = "persist_per_task"
    ACCUMULATE = "accumulate"

    @property
    def carries_state(self) -> bool:
        """Whether some trials continue from the workspace and state of an earlier trial."""
        return self is not StatePolicy.ISOLATE_PER_TRIAL

    @property
    def task_model(self) -> str:
        """The value of the field `task_model` in a run's documents.

        `dependent` if trials continue from the state of earlier trials, otherwise `independent`. AgentLab, an
        experiment runner whose file formats relab keeps, defines the field.
        """
        return "dependent" if self.carries_state else "independent"

    def chain_id(self, variant_id: str, task_id: str, repl_idx: int) -> str:
        """Return the id of a trial's chain. In a chain, each trial continues from the state of the trial before.

        With `ISOLATE_PER_TRIAL`, each trial is alone in its chain, so each trial has another chain id.

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
