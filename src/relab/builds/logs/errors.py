"""The error for a log that cannot be read."""

from __future__ import annotations

from relab.core.errors import InvalidInputError


class BuildLogUnreadableError(InvalidInputError):
    """A log cannot be read.

    Its file does not exist, is a folder or a device, is compressed, is too large, or is not readable for this user.
    """

    code = "build_log_unreadable"
