"""The base of every error that relab raises on purpose.

An error class is named for the reaction it wants. The API maps classes to HTTP
statuses (`api/errors.py`) and the CLI maps them to exit codes (`cli/output.py`), so
a new error joins one of these families instead of inventing a status of its own.
"""

from __future__ import annotations


class RelabError(Exception):
    """Any error with a message meant for a person.

    Attributes:
        message: what happened, naming the field and the value.
        remedy: what the reader can do about it, or None.
    """

    code = "internal"
    is_told = False
    """Whether the API gives the message to clients even though the server is at fault (a 5xx status)."""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


class InvalidInputError(RelabError):
    """The caller sent something wrong and must change it.

    Attributes:
        problems: one `(field, message)` pair per mistake, `field` as a dotted path.
    """

    code = "invalid_input"

    def __init__(
        self,
        message: str,
        *,
        problems: tuple[tuple[str, str], ...] = (),
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.problems = problems


class MalformedBodyError(InvalidInputError):
    """The body cannot be read at all: not the encoding or syntax it claims to be."""

    code = "malformed_body"


class UnsupportedMediaError(InvalidInputError):
    """The body is of a type or encoding that this route does not read."""

    code = "unsupported_media_type"


class TooLargeError(RelabError):
    """The caller sent more than this installation accepts and must send less."""

    code = "too_large"


class NotFoundError(RelabError):
    """What the caller named does not exist."""

    code = "not_found"


class ConflictError(RelabError):
    """The request contradicts what is stored; repeating it cannot help."""

    code = "conflict"


class PreconditionFailedError(ConflictError):
    """What is stored has changed since the caller looked, who must look again."""

    code = "precondition_failed"


class PreconditionRequiredError(RelabError):
    """A change must say which state of what is stored it was made for."""

    code = "precondition_required"


class UnauthenticatedError(RelabError):
    """The caller did not say who they are, or the credential is not valid."""

    code = "unauthenticated"


class ForbiddenError(RelabError):
    """The caller is known, or need not be, but may not do this."""

    code = "forbidden"


class OverloadedError(RelabError):
    """There is too much to do right now; the same request may succeed later.

    Attributes:
        retry_after_s: how long the caller should wait, in seconds.
    """

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: int = 1, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class UnavailableError(RelabError):
    """A part that relab needs (database, Redis, a model) cannot be used right now."""

    code = "unavailable"


class ConfigurationError(RelabError):
    """relab is set up in a way that it refuses to run with; an operator must act."""

    code = "configuration"
