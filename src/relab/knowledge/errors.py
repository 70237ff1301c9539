"""Errors of runbooks, drafts and past incidents."""

from __future__ import annotations

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError


class RunbookError(InvalidInputError):
    """A file is not a valid runbook; `problems` lists file, line and field of each error, and what is wrong."""

    code = "invalid_runbook"


class RunbookNotFoundError(NotFoundError):
    """No active runbook has this cause."""

    code = "runbook_not_found"


class RunbookExistsError(ConflictError):
    """Another file of the runbook folder has a runbook for this cause, or the file to be written exists already."""

    code = "runbook_exists"


class RunbookFolderError(InvalidInputError):
    """The folder of runbooks or drafts, or a file in it, cannot be read or written."""

    code = "runbook_folder"


class PastIncidentNotFoundError(NotFoundError):
    """No past incident has this id."""

    code = "past_incident_not_found"


class VectorStoreError(UnavailableError):
    """The file that caches sentence vectors cannot be used."""

    code = "vector_store"


class DraftNotFoundError(NotFoundError):
    """No draft of a runbook has this cause."""

    code = "draft_not_found"
