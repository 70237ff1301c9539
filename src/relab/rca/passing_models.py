"""The differences between a failed run and runs that succeeded, as a part of the report."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from relab.rca.claims import CitedModel, RcaModel


class PassingDifferenceKind(StrEnum):
    """The kind of a difference between a failed run and runs that succeeded (passing runs).

    - `missing_tool`: the failed run did not call a tool that passing runs called.
    - `argument`: the failed run called a tool without an argument of the passing runs, or with another value for it.
    - `extra_tool`: the failed run called a tool that no passing run called.
    - `order`: the failed run called two tools in the opposite order.
    - `answer`: the passing runs answered with JSON or a number, the failed run with something else.
    - `first_divergence`: the first call that differs from the most similar passing run.
    """

    MISSING_TOOL = "missing_tool"
    ARGUMENT = "argument"
    EXTRA_TOOL = "extra_tool"
    ORDER = "order"
    ANSWER = "answer"
    FIRST_DIVERGENCE = "first_divergence"


class PassingDifference(CitedModel):
    """One difference between a failed run and runs that succeeded, as a sentence. It is an observation, not a cause.

    `runs` is the number of succeeded runs that show the difference. `step_id` and `call_id` are its place in the failed
    run; they are null if there is no such place, for example because a call is missing.
    """

    kind: PassingDifferenceKind
    sentence: str
    tool_name: str | None = None
    step_id: str | None = None
    call_id: str | None = None
    runs: int = Field(ge=1)


class PassingComparison(RcaModel):
    """The comparison of a failed run with runs that succeeded.

    If `same_task` is true, the compared runs have the same agent and task. If it is false, they have the same agent and
    version.
    """

    same_task: bool
    run_ids: tuple[str, ...] = Field(description="The compared runs, newest first.")
    differences: tuple[PassingDifference, ...] = Field((), description="The clearest differences first.")
