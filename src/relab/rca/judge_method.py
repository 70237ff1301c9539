"""The ways to ask a language model which step of a run went wrong first."""

from __future__ import annotations

from enum import StrEnum


class JudgeMethod(StrEnum):
    """The method by which a language model judges a failed run; `off` asks no model.

    - `all_at_once`: sends the whole run in one request.
    - `step_by_step`: asks about one step after the other until the model names one as the first mistake.
    - `binary_search`: asks which half of the steps has the first mistake, and halves it again until one step is left.
    - `rerank`: asks only for the order of the candidate steps that relab ranked without a language model.
    """

    OFF = "off"
    ALL_AT_ONCE = "all_at_once"
    STEP_BY_STEP = "step_by_step"
    BINARY_SEARCH = "binary_search"
    RERANK = "rerank"
