"""Suggest fixes for failed builds, and store the suggestions.

Verdicts of people about earlier suggestions, and the fixes of earlier builds, are taken into account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relab.builds.advice.models import StoredSuggestion, SuggestionState
from relab.builds.advice.store import SuggestionStore
from relab.builds.models import Build, BuildStatus
from relab.builds.store import BuildStore
from relab.builds.suggestions.service import (
    MAX_ERROR_CHARS,
    Examination,
    FixSuggestion,
    KnownFailure,
    PastFix,
    PastFixKind,
    PastVerdict,
    SuggestionRequest,
    answer,
    examine,
    failure_template,
    past_fixes,
)
from relab.core.clock import Clock, format_time
from relab.core.ids import new_id
from relab.storage import Database

MAX_PAST_BUILDS: Final = 200
"""Past fixes are searched in this number of the newest builds that failed in the same way, and of the newest successful
builds."""
MAX_RECORDED: Final = 2
"""The greatest number of recorded fixes that are quoted."""
_MAX_QUOTED_NOTE: Final = 300


class BuildAdvisor:
    """Examines failed builds for known failures, and suggests fixes.

    Args:
        database, clock: the database and the clock of this process.
        failures: the known failures (kinds of failure, each with its signs in a log and its fix) to look for.
    """

    def __init__(self, database: Database, clock: Clock, failures: Sequence[KnownFailure]) -> None:
        self._builds = BuildStore(database)
        self._suggestions = SuggestionStore(database)
        self._clock = clock
        self._failures = failures

    def examine_build(self, build: Build, passed: Build | None) -> Examination:
        """Return the known failures that the log of a failed build shows, and store the key of the failure.

        The key is a digest of the line that shows the failure, with its numbers masked. So builds that failed in the
        same way have the same key. If no line shows the failure, no key is stored.

        Args:
            build: the failed build, whose log is stored.
            passed: the project's newest build that passed, for comparison; None if no build of the project passed.
        """
        result = build.result
        # Where the log shows the failure, the error only repeats a line of it.
        is_measured = result.failure is None or not result.failure.is_in_log
        request = SuggestionRequest(
            log=self._builds.log(build.build_id) or "",
            error=(result.error or "")[:MAX_ERROR_CHARS] if is_measured else "",
            passing=None if passed is None else self._builds.log(passed.build_id),
        )
        examined = examine(request, self._failures)
        if examined.key is not None:
            # By this key, a later build that fails in the same way finds this build.
            self._builds.set_failure_key(build.build_id, examined.key)
        return examined

    def suggest_for_build(self, build: Build, examined: Examination) -> FixSuggestion:
        """Suggest a fix for a failed build, store the suggestion, and return it.

        Args:
            build: the failed build.
            examined: the result of `examine_build` for this build.
        """
        return self._suggest(examined, build.project, build)

    def suggest(self, request: SuggestionRequest) -> FixSuggestion:
        """Suggest a fix for a failed build that a request describes, store the suggestion, and return it.

        The texts in the request, such as the log, are not stored.
        """
        return self._suggest(examine(request, self._failures), request.project, None)

    def _suggest(self, examined: Examination, project: str, build: Build | None) -> FixSuggestion:
        judged = [] if examined.key is None else self._suggestions.judged(examined.key)
        past = (*_recorded(judged, project), *self._past_builds(examined.key, project, build))
        fix = answer(examined, [_verdict(each, project) for each in judged], past)
        stored = self._stored(examined, fix, project, build)
        self._suggestions.add(stored)
        return fix.model_copy(update={"suggestion_id": stored.suggestion_id})

    def _past_builds(self, key: str | None, project: str, build: Build | None) -> tuple[PastFix, ...]:
        if key is None or not project:
            return ()
        alike = self._builds.list_failed_alike(project, key, limit=MAX_PAST_BUILDS)
        if not alike:
            return ()
        passed = self._builds.list_builds(project=project, status=BuildStatus.SUCCESS, limit=MAX_PAST_BUILDS)
        return past_fixes(alike, passed, None if build is None else build.configuration)

    def _stored(self, examined: Examination, fix: FixSuggestion, project: str, build: Build | None) -> StoredSuggestion:
        templates = [examined.template or "", *(failure_template(quote.text) for quote in fix.quotes)]
        return StoredSuggestion(
            suggestion_id=new_id(),
            project=project,
            suggested_at=self._clock.now_us(),
            build_id=None if build is None else build.build_id,
            failure_key=examined.key,
            templates=tuple(each for each in dict.fromkeys(templates) if each),
            incident=fix.incident,
            title=fix.title,
            category=fix.category,
            confidence=fix.confidence,
        )


def _verdict(judged: StoredSuggestion, project: str) -> PastVerdict:
    return PastVerdict(judged.incident, judged.state is SuggestionState.ACCEPTED, judged.project == project)


def _recorded(judged: Sequence[StoredSuggestion], project: str) -> list[PastFix]:
    """Return past fixes from the notes that people wrote when they accepted suggestions for a project.

    Each note gives one past fix; equal notes give it only once. The newest `MAX_RECORDED` past fixes are returned.

    Args:
        judged: suggestions that people accepted or rejected, for failures of one kind, newest first. Rejected ones and
            those for other projects are skipped.
        project: the name of the project.
    """
    found: dict[str, PastFix] = {}
    for suggestion in judged:
        last = suggestion.verdicts[-1]
        note = " ".join(last.note.split())[:_MAX_QUOTED_NOTE]
        if suggestion.project != project or suggestion.state is not SuggestionState.ACCEPTED or not note:
            continue
        failed = f"Build {suggestion.build_id}" if suggestion.build_id else "A build"
        fix = PastFix(
            kind=PastFixKind.RECORDED,
            text=f'{failed} failed the same way; {last.by} noted on {format_time(last.at)[:10]}: "{note}" '
            f"(suggestion {suggestion.suggestion_id}).",
            failed_build=suggestion.build_id,
            suggestion_id=suggestion.suggestion_id,
            note=note,
        )
        found.setdefault(note, fix)
    return list(found.values())[:MAX_RECORDED]
