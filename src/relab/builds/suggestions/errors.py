"""Exceptions for invalid files of known failures (kinds of failures of builds, with their fixes)."""

from __future__ import annotations

from relab.core.errors import InvalidInputError, UnavailableError


class KnownFailuresInvalidError(InvalidInputError):
    """A file of known failures (kinds of failures of builds, with their fixes) is invalid or unreadable.

    The message names the file or the section, and the reason.
    """

    code = "known_failures_invalid"


class KnownFailuresFolderError(UnavailableError):
    """A known failure cannot be written to the folder of the known failures that people have added.

    A known failure is a kind of failure of builds, with its fix.
    """

    code = "known_failures_folder"
