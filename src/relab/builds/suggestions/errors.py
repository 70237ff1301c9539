"""Errors of the suggestions for builds."""

from __future__ import annotations

from relab.core.errors import InvalidInputError, UnavailableError


class KnownFailuresInvalidError(InvalidInputError):
    """A section of a file of known failures lacks a field; the message names it."""

    code = "known_failures_invalid"


class KnownFailuresFolderError(UnavailableError):
    """The folder of an installation's own known failures cannot be written."""

    code = "known_failures_folder"
