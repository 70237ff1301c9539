"""Models of the suggestions for failed builds: known failures, their matches in a log, requests, suggestions, past fixes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relab.builds.logs.models import RelevantLine

ERROR_LINE: Final = 0
"""The number of a quoted line that is not in the log but is the build's error."""
MAX_ERROR_CHARS: Final = 4_000


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """A known kind of failure of builds, with its fix.

    relab ships a list of them (`incidents.md`), and people may add others.

    Attributes:
        id: a name for programs, such as `disk_full`.
        title: the name for people.
        category: the kind of failure, such as `memory`.
        signs: for each typical log line, a few of its words, in order and in lower case.
        fix: the advice, in Markdown.
        hints: weaker signs, in the same form. A log is compared with hints only if it matches no sign of any known
            failure.
    """

    id: str
    title: str
    category: str
    signs: tuple[tuple[str, ...], ...]
    fix: str
    hints: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class FailureMatch:
    """A known failure that matches lines of a log. Each line matches a sign: a few words of a typical line.

    Attributes:
        failure: the known failure.
        confidence: from 0 to 1; higher if the decisive line contains more of the sign, and if this line is more
            relevant for the build's failure. Halved if the line matches only a hint (a weaker sign).
        quotes: the lines that match best, in the order of the log.
        decisive: the line that matches best.
        strength: the total weight of the words that the decisive line shares with the sign; a rare word weighs more.
            The match with the greatest strength is the best one.
    """

    failure: KnownFailure
    confidence: float
    quotes: tuple[RelevantLine, ...]
    decisive: RelevantLine
    strength: float


@dataclass(frozen=True, slots=True)
class Examination:
    """The known failures that the log of a failed build shows, and a key for the way in which the build failed.

    Verdicts of people and past builds are not considered.

    Attributes:
        matches: the known failures that match lines of the log, the best one first.
        reported: the first lines of the log that report errors. If there are few, details of errors follow.
        template: the line that shows the failure, with `#` in place of numbers. This is the line that matches the best
            known failure; without a known failure, it is the first line of `reported`. None if there is no such line.
        key: a digest of the template; builds that failed in the same way have the same key. None without a template.
    """

    matches: tuple[FailureMatch, ...]
    reported: tuple[RelevantLine, ...]
    template: str | None
    key: str | None


@dataclass(frozen=True, slots=True)
class PastVerdict:
    """A person's verdict about an earlier suggestion.

    The suggestion was for a build that failed with the same log line (apart from numbers in it) as the build that needs
    a suggestion now.

    Attributes:
        incident: the id of the known failure that was suggested; None if relab suggested no fix (an abstention).
        is_accepted: True if the suggestion was accepted, False if it was rejected.
        is_same_project: whether both builds belong to the same project.
    """

    incident: str | None
    is_accepted: bool
    is_same_project: bool


class QuotedLine(BaseModel):
    """A line of a log, verbatim but without escape sequences and control characters.

    Attributes:
        number: the number of the line in the log, from 1; 0 if it is the build's error, which is not a line of the log.
        text: the text of the line.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    text: str


class PastFixKind(StrEnum):
    """The kind of evidence for a past fix.

    `configuration`: a build with other settings succeeded. `flaky`: a repeated build succeeded. `recorded`: a person's
    note.
    """

    CONFIGURATION = "configuration"
    """The same input succeeded with another configuration."""
    FLAKY = "flaky"
    """The same input succeeded with nothing changed: a sign of a flaky build, and no fix."""
    RECORDED = "recorded"
    """A person accepted a suggestion, and wrote a note about the fix."""


class PastFix(BaseModel):
    """A possible fix: it seems to have helped after an earlier build of the project failed in the same way.

    The evidence does not prove that the fix was the cause of the success.

    Attributes:
        kind: `configuration` (a build of the same files succeeded with other settings), `flaky` (a build of the same
            files succeeded with the same settings) or `recorded` (a person accepted a suggestion and noted the fix).
        text: a few sentences with the evidence, for people.
        failed_build: the id of the earlier failed build; None if unknown.
        succeeded_build: the id of a later build of the same input that succeeded; None for a recorded fix.
        changes: `{setting: value in the succeeded build}` for settings that differ from the failed build; the value
            None means that the setting is missing.
        succeeded: the number of builds that succeeded with these changes.
        failed: the number of builds that failed in the same way in spite of these changes.
        suggestion_id: the id of the accepted suggestion; only for a recorded fix.
        note: the person's note about the fix; only for a recorded fix.
    """

    model_config = ConfigDict(frozen=True)

    kind: PastFixKind
    text: str
    failed_build: str | None = None
    succeeded_build: str | None = None
    changes: dict[str, str | None] = {}
    succeeded: int = 0
    failed: int = 0
    suggestion_id: str | None = None
    note: str | None = None


class FixSuggestion(BaseModel):
    """A suggestion of a fix for a failed build, or an abstention: the statement that relab knows no fix.

    Attributes:
        suggestion: the advice or the statement that no fix is known, followed by the past fixes, in Markdown.
        is_known: True for advice; False for an abstention. relab abstains if the log shows no known failure, or if
            people mostly rejected the suggestions of each known failure that the log shows.
        incident: the id of the known failure; None for an abstention.
        title: the name of the known failure for people; None for an abstention.
        category: the kind of the known failure, such as `memory`; None for an abstention.
        confidence: how well the quoted lines match the known failure, from 0 to 1, less if people rejected its
            suggestions; 0 for an abstention.
        quotes: the lines that match the known failure best. If the log shows no known failure, the first lines that
            report errors; if these are few, lines with details of errors follow.
        accepted, rejected: how many earlier suggestions of the known failure people accepted and rejected, in all
            projects. Only suggestions for builds that failed with the same log line (apart from numbers in it) count.
            For an abstention because of rejections, the numbers are about the known failure that matches best.
        past_fixes: possible fixes, found in earlier builds of the project that failed in the same way.
        suggestion_id: the id of the suggestion, for a verdict; None if the suggestion is not stored.
    """

    model_config = ConfigDict(frozen=True)

    suggestion: str
    is_known: bool
    incident: str | None = None
    title: str | None = None
    category: str | None = None
    confidence: float = 0.0
    quotes: tuple[QuotedLine, ...] = ()
    accepted: int = 0
    rejected: int = 0
    past_fixes: tuple[PastFix, ...] = ()
    suggestion_id: str | None = None


def _one_is_needed(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"required": ["log"]}, {"required": ["error"]}]


class SuggestionRequest(BaseModel):
    """A request for a suggestion: the log of a failed build, its error, or both.

    Attributes:
        log: the log of the failed build, as the CI system or the tool printed it.
        error: the build's error in one sentence, for example the `error` that `/simulate_build` returns.
        passing: the log of a build of the same kind that passed. Lines that both logs contain do not explain the
            failure.
        project: the name of the project. Past fixes of this project are returned. People's verdicts about earlier
            suggestions have more weight if the suggestion was for a build of this project.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=_one_is_needed)

    log: str = ""
    error: Annotated[str, Field(max_length=MAX_ERROR_CHARS)] = ""
    passing: str | None = None
    project: Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = ""

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        if not self.model_fields_set & {"log", "error"}:
            raise ValueError("the log of the failed build (log) or its error (error) is missing")
        return self
