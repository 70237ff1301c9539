"""Errors of reading builds from files."""

from __future__ import annotations

from relab.core.errors import InvalidInputError


class BuildSourceInvalidError(InvalidInputError):
    """A file is neither a log nor JUnit XML: it is empty, binary, or XML that is malformed, too deep or declares entities."""

    code = "build_source_invalid"


class BuildSourceEmptyError(BuildSourceInvalidError):
    """A log has no text, or nothing but control characters."""
