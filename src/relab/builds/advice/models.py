"""Models of stored suggestions of fixes for failed builds, and of the verdicts of people about them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import Timestamp

MAX_NOTE_CHARS: Final = 1_000
MAX_VERDICTS: Final = 20


class SuggestionState(StrEnum):
    """Whether a person accepted or rejected a suggestion; `open` means that no person has given a verdict yet."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


JudgedState = Literal["accepted", "rejected"]


class SuggestionVerdict(BaseModel):
    """One verdict of a person about a suggestion.

    Attributes:
        verdict: `accepted` or `rejected`.
        by: the name of the person, or of the access token.
        at: the time of the verdict.
        note: the reason, or the fix that helped, with masked secrets; empty if the person wrote no note.
    """

    model_config = ConfigDict(frozen=True)

    verdict: JudgedState
    by: str
    at: Timestamp
    note: str = ""


class StoredSuggestion(BaseModel):
    """A suggestion of a fix for a failed build, or an abstention, which suggests no fix.

    A known failure is a kind of failure that `incidents.md` or a file of this installation describes, with its fix.

    Attributes:
        suggestion_id: the id of the suggestion.
        project: the name of the project; empty if the request named none.
        suggested_at: when the suggestion was made.
        build_id: the failed build; None if this installation has no record of the build.
        failure_key: a digest of the line that shows the failure, with its numbers masked; equal for failures of the
            same kind. None if no line shows the failure.
        templates: the line that shows the failure, then the lines that the suggestion quotes. Each line has `#` in
            place of numbers, and masked secrets.
        incident: the id of the suggested known failure; None for an abstention.
        title: the title of the known failure; None for an abstention.
        category: the category of the known failure; None for an abstention.
        confidence: how well the quoted lines match the known failure, from 0 to 1; 0 for an abstention.
        state: `open`, `accepted` or `rejected`.
        verdicts: the last 20 verdicts of people, oldest first; the newest one decides `state`.
    """

    model_config = ConfigDict(frozen=True)

    suggestion_id: str
    project: str
    suggested_at: Timestamp
    build_id: str | None
    failure_key: str | None
    templates: tuple[str, ...]
    incident: str | None
    title: str | None
    category: str | None
    confidence: float
    state: SuggestionState = SuggestionState.OPEN
    verdicts: tuple[SuggestionVerdict, ...] = ()


class SuggestionPage(BaseModel):
    """A page of suggestions, newest first; `next_before` is the `before` of the next page, None on the last page."""

    items: list[StoredSuggestion]
    next_before: str | None = None


class VerdictRequest(BaseModel):
    """A person's verdict about a suggestion.

    Attributes:
        verdict: `accepted` or `rejected`.
        note: the reason of the verdict, or the fix that helped. If the verdict is `accepted`, suggestions for later
            builds of the project that fail in the same way quote the note.
    """

    model_config = ConfigDict(extra="forbid")

    verdict: JudgedState
    note: Annotated[str, Field(max_length=MAX_NOTE_CHARS)] = ""
