"""Errors of the shop, each named for the response that it should cause."""

from __future__ import annotations

from relab.core.errors import ConflictError, NotFoundError, UnavailableError


class DatabaseError(UnavailableError):
    """The database failed to do what was requested; the request may succeed later.

    Attributes:
        sqlstate: PostgreSQL's code, or None if there is none.
        cause: the message of the driver or the pool.
    """

    code = "database_unavailable"

    def __init__(self, cause: str, *, sqlstate: str | None = None) -> None:
        super().__init__("Service temporarily unavailable: the database cannot be used.")
        self.cause = cause
        self.sqlstate = sqlstate


class StorageError(UnavailableError):
    """The target's own files could not be written.

    Attributes:
        cause: the system's message, with the name of the error (`ENOSPC`).
    """

    code = "insufficient_storage"

    def __init__(self, cause: str) -> None:
        super().__init__("Service temporarily unavailable: the order cannot be recorded.")
        self.cause = cause


class SearchError(UnavailableError):
    """A search index cannot answer.

    Attributes:
        cause: the index's message.
    """

    code = "search_unavailable"

    def __init__(self, cause: str) -> None:
        super().__init__("Service temporarily unavailable: search cannot be used.")
        self.cause = cause


class NoSuchProductError(NotFoundError):
    """The product does not exist."""


class NoSuchOrderError(NotFoundError):
    """The order does not exist."""


class OutOfStockError(ConflictError):
    """The stock is lower than the ordered quantity."""

    code = "out_of_stock"
