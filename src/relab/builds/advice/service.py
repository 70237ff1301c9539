"""The service that lists suggestions of fixes for failed builds, and stores the verdicts of people about them."""

from __future__ import annotations

import re
from typing import Final

from relab.builds.advice.models import (
    MAX_VERDICTS,
    JudgedState,
    StoredSuggestion,
    SuggestionPage,
    SuggestionState,
    SuggestionVerdict,
    VerdictRequest,
)
from relab.builds.advice.store import SuggestionStore
from relab.core.clock import Clock
from relab.core.masking import mask_secrets
from relab.storage import Database

__all__ = [
    "JudgedState",
    "StoredSuggestion",
    "SuggestionPage",
    "SuggestionService",
    "SuggestionState",
    "SuggestionVerdict",
    "VerdictRequest",
]

_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class SuggestionService:
    """Lists stored suggestions of fixes for failed builds, and stores the verdicts of people about them.

    Args:
        database, clock: the database and the clock of this process.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._store = SuggestionStore(database)
        self._clock = clock

    def list_suggestions(
        self,
        *,
        project: str | None = None,
        state: SuggestionState | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> SuggestionPage:
        """Return a page of at most `limit` suggestions, newest first.

        Args:
            project: only suggestions for the project with this name; None for all projects.
            state: only suggestions in this state; None for all states.
            before: only suggestions whose ids are lower than this id; None to begin with the newest.
            limit: the largest number of suggestions.
        """
        items = self._store.list_suggestions(project=project, state=state, before=before, limit=limit + 1)
        return SuggestionPage(
            items=items[:limit], next_before=items[limit - 1].suggestion_id if len(items) > limit else None
        )

    def judge(self, suggestion_id: str, verdict: JudgedState, *, by: str, note: str = "") -> StoredSuggestion:
        """Store the verdict of a person about a suggestion, and return the suggestion.

        The newest verdict decides the state of the suggestion, and influences later suggestions for the same failure.
        A verdict equal to the newest stored one is not stored again, unless it has a new note.

        Args:
            suggestion_id: the id of the suggestion.
            verdict: `accepted` or `rejected`.
            by: the name of the person, which is stored with the verdict.
            note: the reason, or the fix that helped; secrets in it are masked.

        Raises:
            SuggestionNotFoundError: no suggestion has this id.
        """
        said = mask_secrets(_CONTROL.sub(" ", note)).strip()
        now = SuggestionVerdict(verdict=verdict, by=by, at=self._clock.now_us(), note=said)

        def judged(suggestion: StoredSuggestion) -> StoredSuggestion:
            last = suggestion.verdicts[-1] if suggestion.verdicts else None
            if last is not None and last.verdict is verdict and said in {"", last.note}:
                return suggestion
            verdicts = (*suggestion.verdicts, now)[-MAX_VERDICTS:]
            return suggestion.model_copy(update={"state": SuggestionState(verdict), "verdicts": verdicts})

        return self._store.change(suggestion_id, judged)
