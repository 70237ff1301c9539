"""Errors of known failures, from which fixes for builds are suggested."""

from __future__ import annotations

from relab.core.errors import InvalidInputError, UnavailableError


class KnownFailuresInvalidError(InvalidInputError):
    """A file of known failures is invalid or unreadable; the message names the file or the section, and the reason."""

    code = "known_failures_invalid"


class KnownFailuresFolderError(UnavailableError):
    """The folder of an installation's own known failures cannot be written."""

    code = "known_failures_folder"
