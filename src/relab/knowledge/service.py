"""Use cases of knowledge: manage the active runbooks and their drafts, search them, and store past incidents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from relab.core.errors import ConfigurationError
from relab.core.ids import check_id
from relab.core.yaml_source import nearest
from relab.knowledge import repository
from relab.knowledge.actions import ACTIONS
from relab.knowledge.drafts import Draft, Drafts, write_whole
from relab.knowledge.errors import (
    PastIncidentNotFoundError,
    RunbookError,
    RunbookExistsError,
    RunbookFolderError,
    RunbookNotFoundError,
)
from relab.knowledge.learnt import learnt_runbooks
from relab.knowledge.library import SUFFIX, FileProblem, Library, Shelf, folder_shelf, load_library, shipped_shelf
from relab.knowledge.lint import Remark, Surroundings, Weight, lint
from relab.knowledge.memory import memory_factors
from relab.knowledge.models import UNNAMED, FactValue, Hit, PastIncident, Relearnt, Runbook
from relab.knowledge.packaged import packaged_meaning
from relab.knowledge.reading import parse_runbook, read_text
from relab.knowledge.revising import revised
from relab.knowledge.search import Meaning, search
from relab.knowledge.writing import write_runbook
from relab.storage import Database, UnitOfWork

__all__ = [
    "ACTIONS",
    "Draft",
    "FileProblem",
    "KnowledgeService",
    "Library",
    "Remark",
    "RunbookFolderError",
    "Surroundings",
    "Weight",
    "packaged_meaning",
    "read_text",
    "write_runbook",
]

MAX_INCIDENTS: Final = 500
"""The maximum number of past incidents that are read, the latest first: the service was a different one years ago."""


class KnowledgeService:
    """Manages runbooks, which are files, and past incidents, which are in the database.

    Args:
        folder: the folder of the installation's own runbooks that the settings name; None: `home_folder` is used.
        home_folder: the folder to use if `folder` is None; it is created when the first runbook is added.
        without: causes to exclude; their runbooks are not active.
        remembers: whether a search also covers past incidents.
        meaning: compares texts by a sentence-embedding model; if None, a search compares words only.
    """

    def __init__(
        self,
        database: Database,
        *,
        folder: Path | None,
        home_folder: Path,
        without: Collection[str] = (),
        remembers: bool = True,
        meaning: Meaning | None = None,
    ) -> None:
        self._database = database
        self._remembers = remembers
        self._meaning = meaning
        self._without = frozenset(without)
        self._folder, self._home_folder = folder, home_folder

    @property
    def folder(self) -> Path:
        """The folder of the installation's own runbooks; it may not exist yet."""
        return self._folder or self._home_folder

    def make_folder(self) -> bool:
        """If the settings name a folder of runbooks that does not exist, create it; return whether it was created.

        Raises:
            RunbookFolderError: the folder cannot be created.
        """
        if self._folder is None or self._folder.is_dir():
            return False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunbookFolderError(
                f"The folder of runbooks {self._folder} cannot be created: {error.strerror}.",
                remedy="Set RUNBOOKS_PATH to an existing folder, or to one that can be created.",
            ) from error
        return True

    def check(self) -> None:
        """Check that the settings of the runbooks can be used.

        Raises:
            ConfigurationError: the settings exclude a cause that no runbook has, for example a misspelt one.
            RunbookFolderError: the folder that the settings name cannot be read.
        """
        causes = self._causes()
        # A file with a mistake cannot be read, so only its name says which cause it has.
        broken = {Path(_of_problem(*problem).source).stem for shelf in self._shelves() for problem in shelf.problems}
        unknown = sorted(self._without - causes - broken)
        if unknown:
            named = ", ".join(f"{cause[:100]!r}{nearest(cause, sorted(causes))}" for cause in unknown)
            raise ConfigurationError(
                f"RELAB_INCIDENTS__EXCLUDED_RUNBOOKS names causes that no runbook has: {named}.",
                remedy="Use the causes that `lab knowledge list` prints.",
            )

    def library(self) -> Library:
        """Read the active runbooks from their files and return them.

        Raises:
            RunbookFolderError: the folder that the settings name cannot be read.
        """
        return load_library(self._own(), without=self._without)

    def runbook(self, cause: str) -> Runbook:
        """Return the runbook of a cause.

        Raises:
            RunbookNotFoundError: no active runbook has this cause.
            RunbookFolderError: the folder that the settings name cannot be read.
        """
        found = self.library().get(cause)
        if found is None:
            raise RunbookNotFoundError(f"No runbook has the cause {cause[:100]!r}.", remedy="See: lab knowledge list")
        return found

    def lint(self, surroundings: Surroundings | None = None) -> list[Remark]:
        """Return the mistakes in all runbooks, and the conflicts between runbooks of one folder and between active ones.

        `surroundings` has the names of the actions, probes and facts that exist. If it is None, names are not checked.

        Raises:
            RunbookFolderError: the folder that the settings name cannot be read.
        """
        shelves = self._shelves()
        unreadable = [_of_problem(place, said) for shelf in shelves for place, said in shelf.problems]
        found = [remark for shelf in shelves for remark in lint(shelf.runbooks, surroundings)]
        # Across the two folders, only active runbooks can conflict with each other.
        found += lint(self.library().runbooks, surroundings)
        return list(dict.fromkeys([*unreadable, *found]))

    def add(self, path: Path, *, replace: bool = False, surroundings: Surroundings | None = None) -> Runbook:
        """Check the runbook in the file `path` for mistakes, copy it to the folder of runbooks, and return it.

        `surroundings` has the names of the actions, probes and facts that exist. None: they are not checked.

        Raises:
            RunbookError: the file is not a runbook, or has errors that make it unusable. The exception lists them.
            RunbookExistsError: another file of the folder has a runbook for this cause; or the file to be written
                exists, and `replace` is False.
            RunbookFolderError: the folder cannot be read or written.
        """
        text = read_text(path)
        runbook = parse_runbook(text, str(path))
        others = [each for each in self.library().runbooks if each.cause != runbook.cause]
        _refuse_useless([each for each in lint([*others, runbook], surroundings) if each.source == runbook.source])
        own = folder_shelf(self.folder) if self.folder.is_dir() else Shelf()
        target = self.folder / f"{runbook.cause}{SUFFIX}"
        self._refuse_taken(runbook, target, own, replace=replace)
        write_whole(target, text)
        return parse_runbook(text, str(target))

    def search(self, query: str, *, limit: int = 10, with_incidents: bool = True) -> list[Hit]:
        """Return the runbooks that match a query, and past incidents if `with_incidents`; at most `limit`, best first.

        Raises:
            RunbookFolderError: the folder that the settings name cannot be read.
            UnavailableError: SQLite has no full-text search, or the sentence model or its store cannot be used.
        """
        incidents = self.latest() if with_incidents and self._remembers else []
        return search(query, runbooks=self.library().runbooks, incidents=incidents, limit=limit, meaning=self._meaning)

    def remember(self, incident: PastIncident, unit: UnitOfWork | None = None) -> None:
        """Store an incident that is over; it replaces a stored incident with the same id.

        `unit` is the transaction of the caller; None for a transaction of its own.
        """
        with self._database.write() if unit is None else nullcontext(unit) as writing:
            repository.put(writing.session, incident)

    def forget(self, incident_id: str, unit: UnitOfWork) -> None:
        """Delete a past incident in the transaction of the caller; an unknown id is ignored."""
        repository.remove(unit.session, incident_id)

    def delete(self, incident_id: str) -> Relearnt:
        """Delete a past incident; return it, and the causes whose learnt runbook appears or disappears without it.

        Raises:
            PastIncidentNotFoundError: no past incident has this id.
            RunbookFolderError: the folder that the settings name cannot be read.
        """
        incident = self.get(incident_id)
        before = self._experience(incident.target)
        with self._database.write() as unit:
            if not repository.remove(unit.session, incident_id):
                raise _no_incident(incident_id)
        return _relearnt(incident, before, self._experience(incident.target))

    def correct(self, incident_id: str, cause: str) -> Relearnt:
        """Change the cause of a past incident, and return the changed incident.

        The result also names the causes for which the change added or removed a runbook learnt from past incidents.

        Args:
            incident_id: the id of the incident.
            cause: the new cause: a cause that has a runbook, or `unknown`.

        Raises:
            PastIncidentNotFoundError: no past incident has this id.
            RunbookNotFoundError: no runbook has the cause.
            RunbookFolderError: the folder that the settings name cannot be read.
        """
        incident, causes = self.get(incident_id), sorted({UNNAMED, *self._causes()})
        if cause not in causes:
            raise RunbookNotFoundError(
                f"No runbook has the cause {cause[:100]!r}{nearest(cause, causes)}.",
                remedy=f"See: lab knowledge list; {UNNAMED} is the cause of incidents that no runbook describes.",
            )
        corrected = incident.model_copy(update={"cause": cause})
        before = self._experience(incident.target)
        self.remember(corrected)
        return _relearnt(corrected, before, self._experience(incident.target))

    def get(self, incident_id: str) -> PastIncident:
        """Return a past incident.

        Raises:
            PastIncidentNotFoundError: no past incident has this id.
        """
        with self._database.read() as session:
            content = repository.get(session, incident_id) if _can_be_id(incident_id) else None
        if content is None:
            raise _no_incident(incident_id)
        return PastIncident.model_validate(content)

    def latest(
        self, *, cause: str | None = None, target: str | None = None, limit: int = MAX_INCIDENTS
    ) -> list[PastIncident]:
        """Return at most `limit` past incidents of a cause and a target (None: any), the one that ended last first."""
        with self._database.read() as session:
            contents = repository.latest(session, cause=cause, target=target, limit=limit)
        return [PastIncident.model_validate(content) for content in contents]

    def memory(
        self, facts: Mapping[str, FactValue], templates: Mapping[str, int], *, leave_out: Collection[str] = ()
    ) -> dict[str, float]:
        """Return the factors by which similar past incidents raise the prior probabilities of causes, by cause.

        Args:
            facts: the facts of the current incident, by name.
            templates: templates of the current log lines, with the number of lines of each.
            leave_out: ids of past incidents to ignore.
        """
        incidents = [incident for incident in self.latest() if incident.incident_id not in leave_out]
        return memory_factors(facts, templates, incidents)

    def learnt(
        self, target: str, runbooks: Sequence[Runbook], looks: Mapping[str, Collection[str]]
    ) -> tuple[Runbook, ...]:
        """Return new runbooks from a target's past incidents of unknown cause that a person resolved by an action.

        Args:
            target: the service, by the name that its responder uses.
            runbooks: the active runbooks.
            looks: the names of the facts that each probe can give, by the name of the probe.
        """
        return learnt_runbooks(self.latest(target=target), runbooks, looks)

    def revisions(self, cause: str) -> tuple[Runbook, ...]:
        """Return `(runbook,)` with the changes that past incidents suggest for a cause; `()` if they suggest no change.

        Raises:
            RunbookFolderError: the folder that the settings name cannot be read.
        """
        runbook = self.library().get(cause)
        proposed = revised(runbook, self.latest(cause=cause)) if runbook is not None else None
        return (proposed,) if proposed is not None else ()

    def draft(self, runbook: Runbook) -> Path:
        """Write a runbook as a draft, which a person can read, change and `accept`; return the path of its file.

        The draft is not in use until it is accepted. An existing draft is kept: a person may be editing it.

        Raises:
            RunbookFolderError: the folder cannot be written.
        """
        return Drafts(self.folder).put(runbook)

    def drafts(self) -> tuple[list[Draft], tuple[FileProblem, ...]]:
        """Return the drafts, sorted by cause, and the problems of draft files that cannot be read.

        Raises:
            RunbookFolderError: a folder cannot be read.
        """
        return Drafts(self.folder).all(self._in_use())

    def get_draft(self, cause: str) -> Draft:
        """Return the draft (a runbook that waits for a person to accept it) for a cause.

        Raises:
            DraftNotFoundError: the cause has no draft.
            RunbookFolderError: a folder cannot be read.
        """
        return Drafts(self.folder).get(cause, self._in_use())

    def accept(self, cause: str) -> Runbook:
        """Check the draft of a cause for mistakes, make it the cause's active runbook, and return the runbook.

        Raises:
            DraftNotFoundError: the cause has no draft.
            RunbookError: the draft has errors that make it unusable. The exception has the place of each error.
            RunbookExistsError: the folder has the cause's runbook under another file name.
            RunbookFolderError: a folder cannot be read or written.
        """
        draft = self.get_draft(cause)
        accepted = self.add(draft.path, replace=True)
        Drafts(self.folder).remove(draft)
        return accepted

    def _experience(self, target: str) -> set[str]:
        """Return the causes of the runbooks that `learnt` returns for a target."""
        return {runbook.cause for runbook in self.learnt(target, self.library().runbooks, {})}

    def _causes(self) -> set[str]:
        """Return the causes of all readable runbooks, shipped or own, including excluded causes."""
        return {runbook.cause for shelf in self._shelves() for runbook in shelf.runbooks}

    def _shelves(self) -> list[Shelf]:
        own = self._own()
        return [shipped_shelf(), folder_shelf(own) if own is not None else Shelf()]

    def _in_use(self) -> dict[str, Runbook]:
        return {runbook.cause: runbook for runbook in self.library().runbooks}

    def _own(self) -> Path | None:
        """Return the folder in the settings; if it is not set, the default folder, or None if that does not exist."""
        if self._folder is not None:
            return self._folder
        return self._home_folder if self._home_folder.is_dir() else None

    def _refuse_taken(self, runbook: Runbook, target: Path, own: Shelf, *, replace: bool) -> None:
        for other in own.runbooks:
            if other.cause == runbook.cause and Path(other.source) != target:
                raise RunbookExistsError(
                    f"The cause {runbook.cause!r} has a runbook in {other.source}.", remedy="Edit that file."
                )
        if target.exists() and not replace:
            raise RunbookExistsError(f"The file {target} exists already.", remedy="Use --replace to replace it.")


def _refuse_useless(remarks: Sequence[Remark]) -> None:
    wrong = tuple((each.place, each.message) for each in remarks if each.weight is Weight.ERROR)
    if wrong:
        place, message = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise RunbookError(
            f"{place} {message}{more}.",
            problems=wrong,
            remedy="Correct the file. With --ask, the actions of your own action server are accepted.",
        )


def _of_problem(place: str, message: str) -> Remark:
    """Convert an error of reading a runbook's file to a remark; `place` is `file:line: field`."""
    where, _, field = place.partition(": ")
    source, _, line = where.rpartition(":")
    return Remark(source, field, message, line=int(line)) if line.isdecimal() else Remark(where, field, message)


def _relearnt(incident: PastIncident, before: set[str], after: set[str]) -> Relearnt:
    return Relearnt(incident, gone=tuple(sorted(before - after)), new=tuple(sorted(after - before)))


def _no_incident(incident_id: str) -> PastIncidentNotFoundError:
    return PastIncidentNotFoundError(
        f"There is no past incident {incident_id[:200]!r}.", remedy="See: lab knowledge incidents"
    )


def _can_be_id(incident_id: str) -> bool:
    # PostgreSQL rejects some texts, such as one with NUL, even as a query parameter.
    try:
        check_id(incident_id).encode()
    except ValueError:
        return False
    return True
