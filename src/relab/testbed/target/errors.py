"""Errors of the shop. The base class of each error determines the HTTP status of the response."""

from __future__ import annotations

from relab.core.errors import ConflictError, NotFoundError, PreconditionFailedError, UnavailableError


class DatabaseError(UnavailableError):
    """The database, the connection to it or the pool failed; the same request may succeed later.

    Attributes:
        cause: the message of the driver or the pool.
        sqlstate: PostgreSQL's error code; None if the error did not come from the server.
    """

    code = "database_unavailable"

    def __init__(self, cause: str, *, sqlstate: str | None = None) -> None:
        super().__init__("Service temporarily unavailable: the database cannot be used.")
        self.cause = cause
        self.sqlstate = sqlstate


class StorageError(UnavailableError):
    """The target's own files could not be written.

    Attributes:
        cause: the operating system's message, with the name of the error, such as `ENOSPC`.
    """

    code = "insufficient_storage"

    def __init__(self, cause: str) -> None:
        super().__init__("Service temporarily unavailable: the order cannot be recorded.")
        self.cause = cause


class SearchError(UnavailableError):
    """A search index cannot answer.

    Attributes:
        cause: the error message of the index.
    """

    code = "search_unavailable"

    def __init__(self, cause: str) -> None:
        super().__init__("Service temporarily unavailable: search cannot be used.")
        self.cause = cause


class StaleFlagsError(PreconditionFailedError):
    """The flags were changed since the client read them."""

    code = "stale_flags"

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(
            f"The flags are at version {found}, not {expected}; nothing was changed.",
            remedy="Read the flags again.",
        )


class NoSuchProductError(NotFoundError):
    """The product does not exist."""


class NoSuchOrderError(NotFoundError):
    """The order does not exist."""


class OutOfStockError(ConflictError):
    """The stock is lower than the ordered quantity."""

    code = "out_of_stock"
