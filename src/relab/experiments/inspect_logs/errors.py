"""Errors of reading and writing logs of Inspect AI."""

from __future__ import annotations

from pathlib import Path

from relab.core.errors import ConflictError, InvalidInputError


class InspectLogError(InvalidInputError):
    """A log of Inspect AI cannot be read or imported."""

    code = "inspect_log_invalid"


class InspectLogTruncatedError(InspectLogError):
    """The archive ends too early: its directory of entries, which is written last, is missing."""

    code = "inspect_log_truncated"


class InspectLogTooLargeError(InspectLogError):
    """An entry of the log, or the log as a whole, is larger than the limits of the reader."""

    code = "inspect_log_too_large"


class InspectLogUnsafeError(InspectLogError):
    """The archive is unsafe: an entry is encrypted, or has an unsafe name, such as one with `..`."""

    code = "inspect_log_unsafe"


class InspectLogsDifferError(InvalidInputError):
    """Logs cannot be variants of one experiment, because they differ in their samples or scorers."""

    code = "inspect_logs_differ"


class InspectLogImportedError(ConflictError):
    """The project already has the run that an import of these logs would create."""

    code = "inspect_log_imported"


class InspectExportError(ConflictError):
    """A log cannot be written: the file exists already, or the run has no trial to write."""

    code = "inspect_export_refused"


def refused(kind: type[InspectLogError], path: Path, what: str, *, remedy: str | None = None) -> InspectLogError:
    """Return (not raise) an error about a log that cannot be read.

    Args:
        kind: the class of the error.
        path: the path of the log.
        what: what is wrong, as the rest of a sentence that begins with the path, such as `is missing`.
        remedy: an action that solves the problem; None if there is none.
    """
    return kind(f"{path} {what}.", remedy=remedy)
