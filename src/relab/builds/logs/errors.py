"""Errors of reading logs of builds."""

from __future__ import annotations

from relab.core.errors import InvalidInputError


class BuildLogUnreadableError(InvalidInputError):
    """A log cannot be read: its file does not exist, is a folder, is compressed, or is not readable for this user."""

    code = "build_log_unreadable"
