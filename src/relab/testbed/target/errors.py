"""What can go wrong in the shop, named for the answer that it wants."""

from __future__ import annotations

from relab.core.errors import ConflictError, NotFoundError, UnavailableError


class DatabaseError(UnavailableError):
    """The database did not do what it was asked; the request may succeed later.

    Attributes:
        sqlstate: PostgreSQL's code, or None where the server said nothing.
        cause: the driver's or the pool's own words.
    """

    code = "database_unavailable"

    def __init__(self, cause: str, *, sqlstate: str | None = None) -> None:
        super().__init__("Service temporarily unavailable: the database cannot be used.")
        self.cause = cause
        self.sqlstate = sqlstate


class StorageError(UnavailableError):
    """Something could not be written to the target's own files.

    Attributes:
        cause: the system's words, with the name of the error (`ENOSPC`).
    """

    code = "insufficient_storage"

    def __init__(self, cause: str) -> None:
        super().__init__("Service temporarily unavailable: the order cannot be recorded.")
        self.cause = cause


class SearchError(UnavailableError):
    """One search index cannot answer.

    Attributes:
        cause: what the index said.
    """

    code = "search_unavailable"

    def __init__(self, cause: str) -> None:
        super().__init__("Service temporarily unavailable: search cannot be used.")
        self.cause = cause


class NoSuchProductError(NotFoundError):
    """There is no such product."""


class NoSuchOrderError(NotFoundError):
    """There is no such order."""


class OutOfStockError(ConflictError):
    """There is less in stock than was ordered."""

    code = "out_of_stock"
