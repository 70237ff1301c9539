"""Labels of behaviours (statements of people whether a run shows a behaviour), and names of behaviours and of their jobs."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import Timestamp

BEHAVIOUR_PATTERN: Final = r"^[a-z][a-z0-9-]{0,63}$"
SEARCH_JOB: Final = "rca.search"
"""The job that searches new runs for behaviours."""
NOTICE_JOB: Final = "rca.notice"
"""The job that sends a notification; its arguments are the notification as JSON (`notifying.notice_of`)."""


class NewBehaviourLabel(BaseModel):
    """A person's statement that a run shows a behaviour (a pattern that a rule describes), or that it does not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    is_shown: bool = Field(strict=True, description="Whether the run shows the behaviour.")


class RunBehaviourLabel(BaseModel):
    """A stored label: a person's statement that a run shows a behaviour (a pattern of a rule), or that it does not.

    A run has at most one label per behaviour. `content_hash` identifies the content that the run had when it was
    labelled.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    behaviour: str
    content_hash: str
    is_shown: bool
    labelled_by: str
    labelled_at: Timestamp
