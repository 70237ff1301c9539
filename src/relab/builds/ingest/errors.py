"""Errors of reading the log or the JUnit XML file of a build."""

from __future__ import annotations

from relab.core.errors import InvalidInputError


class BuildSourceInvalidError(InvalidInputError):
    """A file cannot be used as a log or as JUnit XML.

    It cannot be read, is empty, binary or too large, or is XML that is malformed, nested too deep or not JUnit XML.
    """

    code = "build_source_invalid"


class BuildSourceEmptyError(BuildSourceInvalidError):
    """A log has no text, or nothing but control characters."""
