"""Known failures of builds, requests for suggestions, and suggestions of what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relab.builds.logs import RelevantLine

ERROR_LINE: Final = 0
"""The number of a quoted line that is not in the log but is the build's error."""
MAX_ERROR_CHARS: Final = 4_000


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """One section of `incidents.md`: a failure of builds that is known, and its fix.

    Attributes:
        id: a name for programs, such as `disk_full`.
        title: its name for people.
        category: the kind of failure, such as `memory`.
        signs: the words of each sign in their order, in lower case.
        fix: the advice, in Markdown.
    """

    id: str
    title: str
    category: str
    signs: tuple[tuple[str, ...], ...]
    fix: str


@dataclass(frozen=True, slots=True)
class FailureMatch:
    """A known failure that lines show.

    Attributes:
        failure: the known failure.
        confidence: how well the quoted lines match a sign of it, from 0 to 1.
        quotes: the lines that match best, in the order of the log.
    """

    failure: KnownFailure
    confidence: float
    quotes: tuple[RelevantLine, ...]


class QuotedLine(BaseModel):
    """A line of a log, verbatim but without escape sequences and control characters.

    Attributes:
        number: its number in the log, from 1; 0 for the build's error, which is not a line of the log.
        text: the text.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    text: str


class FixSuggestion(BaseModel):
    """What to do about a failed build, or that its failure is not known.

    Attributes:
        suggestion: the advice, in Markdown; if the failure is not known, a sentence that says so.
        is_known: whether the log shows a known failure.
        incident: the id of the known failure; None if it is not known, as for the next two.
        title: its name for people.
        category: the kind of failure, such as `memory`.
        confidence: how well the quoted lines match a sign of the failure, from 0 to 1; 0 if it is not known.
        quotes: the lines that match best; if the failure is not known, the first lines that report errors.
    """

    model_config = ConfigDict(frozen=True)

    suggestion: str
    is_known: bool
    incident: str | None = None
    title: str | None = None
    category: str | None = None
    confidence: float = 0.0
    quotes: tuple[QuotedLine, ...] = ()


def _one_is_needed(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"required": ["log"]}, {"required": ["error"]}]


class SuggestionRequest(BaseModel):
    """A failed build to suggest a fix for: its log, its error, or both.

    Attributes:
        log: the log of the failed build, as the CI system or the tool printed it.
        error: the build's error in one sentence, such as `/simulate_build` returns it.
        passing: the log of a build of the same kind that passed; what it contains too explains no failure.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=_one_is_needed)

    log: str = ""
    error: Annotated[str, Field(max_length=MAX_ERROR_CHARS)] = ""
    passing: str | None = None

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        if not self.model_fields_set & {"log", "error"}:
            raise ValueError("the log of the failed build (log) or its error (error) is missing")
        return self
