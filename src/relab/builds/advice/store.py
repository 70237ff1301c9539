"""Store and read suggestions; each method is one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from relab.builds import repository, totals
from relab.builds.advice.models import StoredSuggestion, SuggestionState
from relab.builds.errors import SuggestionNotFoundError
from relab.storage import Database, counters

MAX_OPEN: Final = 10_000
"""The greatest number of open suggestions of all projects together; older open ones are deleted. Suggestions with a
verdict are kept until they are pruned."""
MAX_JUDGED: Final = 500
_JUDGED: Final = (SuggestionState.ACCEPTED.value, SuggestionState.REJECTED.value)


class SuggestionStore:
    """Stores and reads suggestions of fixes for failed builds, with the verdicts of people about them.

    Args:
        database: the database of the builds.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, suggestion: StoredSuggestion) -> None:
        """Insert a suggestion, and count it in the metrics.

        If there are now more than 10,000 open suggestions, the oldest of them are deleted.
        """
        with self._database.write() as unit:
            repository.add_suggestion(unit.session, {**_columns(suggestion), "suggestion_id": suggestion.suggestion_id})
            repository.delete_surplus_suggestions(unit.session, SuggestionState.OPEN.value, keep=MAX_OPEN)
            counters.add(unit.session, [totals.SUGGESTIONS.one(suggestion.category or "")])

    def change(self, suggestion_id: str, change: Callable[[StoredSuggestion], StoredSuggestion]) -> StoredSuggestion:
        """Replace a stored suggestion by the result of `change`, in one transaction; return the new suggestion.

        Raises:
            SuggestionNotFoundError: no suggestion has this id.
        """
        with self._database.write() as unit:
            found = repository.get_suggestion(unit.session, suggestion_id)
            if found is None:
                raise SuggestionNotFoundError(suggestion_id)
            before = StoredSuggestion.model_validate(found)
            after = change(before)
            if after != before:
                repository.change_suggestion(unit.session, suggestion_id, _columns(after))
            return after

    def list_suggestions(
        self, *, project: str | None, state: SuggestionState | None, before: str | None, limit: int
    ) -> list[StoredSuggestion]:
        """Return at most `limit` suggestions, newest first.

        Args:
            project: only suggestions for this project; None for all.
            state: only suggestions in this state; None for all.
            before: only suggestions whose ids are lower than this id; None to begin with the newest.
            limit: the largest number of suggestions.
        """
        states = () if state is None else (state.value,)
        with self._database.read() as session:
            found = repository.list_suggestions(session, project=project, states=states, before=before, limit=limit)
        return [StoredSuggestion.model_validate(document) for document in found]

    def judged(self, failure_key: str) -> list[StoredSuggestion]:
        """Return the newest 500 accepted or rejected suggestions for failures with this key, newest first."""
        with self._database.read() as session:
            found = repository.list_suggestions(session, states=_JUDGED, failure_key=failure_key, limit=MAX_JUDGED)
        return [StoredSuggestion.model_validate(document) for document in found]


def _columns(suggestion: StoredSuggestion) -> dict[str, Any]:
    return {
        "project": suggestion.project,
        "state": suggestion.state.value,
        "failure_key": suggestion.failure_key,
        "suggested_at": suggestion.suggested_at,
        "document": suggestion.model_dump(mode="json"),
    }
