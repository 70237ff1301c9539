"""Errors of known failures, which are used to suggest fixes for builds."""

from __future__ import annotations

from relab.core.errors import InvalidInputError, UnavailableError


class KnownFailuresInvalidError(InvalidInputError):
    """A file of known failures (kinds of failures of builds, with their fixes) is invalid or unreadable.

    The message names the file or the section, and the reason.
    """

    code = "known_failures_invalid"


class KnownFailuresFolderError(UnavailableError):
    """The folder of the known failures that people have added to this installation cannot be written.

    A known failure is a kind of failure of builds, with its fix.
    """

    code = "known_failures_folder"
