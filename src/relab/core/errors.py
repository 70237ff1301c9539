"""The base classes of all errors that relab raises on purpose.

There is one class for each way in which a caller should react to an error. The API maps these classes to HTTP statuses
(`core/http_statuses.py`) and the CLI maps them to exit codes (`cli/output.py`), so a new error must be a subclass of one of
these classes instead of defining a new status.
"""

from __future__ import annotations


class RelabError(Exception):
    """The base class of errors with a message for a person.

    Attributes:
        message: the problem, with the field and the value.
        remedy: an action that solves the problem, or None.
        code: a short name of the error class for programs, such as `not_found`.
    """

    code = "internal"
    is_safe_to_show = False
    """Whether the API sends the message to clients although the status is a server error (5xx)."""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


class InvalidInputError(RelabError):
    """The request is invalid, and the caller must change it.

    Attributes:
        problems: one `(field, message)` pair per problem, `field` as a dotted path.
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
    """The body cannot be parsed: it does not have the declared encoding or syntax."""

    code = "malformed_body"


class UnsupportedMediaError(InvalidInputError):
    """The route does not support the body's content type or content encoding."""

    code = "unsupported_media_type"


class TooLargeError(RelabError):
    """The request is larger than this installation accepts; the caller must send less."""

    code = "too_large"


class NotFoundError(RelabError):
    """The requested object does not exist."""

    code = "not_found"


class ConflictError(RelabError):
    """The request conflicts with the present state; the same request cannot succeed until this state changes."""

    code = "conflict"


class InUseError(ConflictError):
    """Another process has exclusive use of the object; the same request can succeed after that process has ended."""

    code = "in_use"


class ExtraMissingError(ConflictError):
    """The request needs an optional extra of relab whose packages are missing; an operator must install them."""

    code = "extra_missing"


class NotConfiguredError(ConflictError):
    """The request needs an optional part of relab, such as a language model, that is not configured."""

    code = "not_configured"


class PreconditionFailedError(ConflictError):
    """The stored object has changed since the caller read it; the caller must read it again."""

    code = "precondition_failed"


class PreconditionRequiredError(RelabError):
    """The request changes a stored object, but does not name the version that the caller has read (`If-Match`)."""

    code = "precondition_required"


class UnauthenticatedError(RelabError):
    """The request has no credential, or its credential is not valid."""

    code = "unauthenticated"


class ForbiddenError(RelabError):
    """The caller, authenticated or not, is not allowed to perform the operation."""

    code = "forbidden"


class OverloadedError(RelabError):
    """The server is overloaded; the same request may succeed later.

    Attributes:
        retry_after_s: the time that the caller should wait before a retry, in seconds.
    """

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(RelabError):
    """Something that the request needs (database, Redis, a language model, a port) is temporarily unavailable."""

    code = "unavailable"


class ConfigurationError(RelabError):
    """The configuration of relab is not valid, and an operator must change it."""

    code = "configuration"
