"""The ways to ask a language model which step of a run went wrong first."""

from __future__ import annotations

from enum import StrEnum


class JudgeMethod(StrEnum):
    """The method by which a language model judges a failed run; `off` asks no model.

    - `all_at_once`: sends the whole run in one request.
    - `step_by_step`: sends one step after the other until the first mistake.
    - `binary_search`: sends halves of the run.
    - `rerank`: only orders the candidate steps that relab has ranked without a language model.
    """

    OFF = "off"
    ALL_AT_ONCE = "all_at_once"
    STEP_BY_STEP = "step_by_step"
    BINARY_SEARCH = "binary_search"
    RERANK = "rerank"
