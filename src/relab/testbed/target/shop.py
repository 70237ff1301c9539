"""The shop's use cases: product pages, search, orders."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import SystemClock
from relab.core.ids import new_id
from relab.testbed.target.cache import Cache
from relab.testbed.target.database import ShopDatabase
from relab.testbed.target.errors import NoSuchOrderError, NoSuchProductError, OutOfStockError, StorageError
from relab.testbed.target.files import append_line
from relab.testbed.target.log_files import log_time
from relab.testbed.target.recorder import WorkerRecorder
from relab.testbed.target.search import Products, Search

Value = TypeVar("Value")

RECENT_ORDERS: Final = 5

SQL_PRODUCT: Final = """
SELECT p.id, p.name, p.description, p.price_cents, s.quantity,
       (SELECT max(o.created_at) FROM orders o WHERE o.product_id = p.id) AS last_ordered_at
  FROM products p JOIN stock s ON s.product_id = p.id WHERE p.id = %s"""
SQL_ORDER: Final = """
SELECT number, product_id, quantity, customer, total_cents, created_at FROM orders WHERE number = %s"""
SQL_RECENT: Final = """
SELECT number FROM orders WHERE customer = %s ORDER BY created_at DESC LIMIT %s"""
SQL_TAKE: Final = """
UPDATE stock SET quantity = quantity - %(quantity)s
 WHERE product_id = %(product_id)s AND quantity >= %(quantity)s RETURNING quantity"""
SQL_INSERT: Final = """
INSERT INTO orders (number, product_id, quantity, customer, note, total_cents)
SELECT %(number)s, p.id, %(quantity)s, %(customer)s, %(note)s, p.price_cents * %(quantity)s
  FROM products p WHERE p.id = %(product_id)s RETURNING total_cents, created_at"""
SQL_IN_STOCK: Final = "SELECT quantity FROM stock WHERE product_id = %s"


class OrderRequest(BaseModel):
    """The body of a request for an order: a product, a quantity, the customer's name and a note."""

    model_config = ConfigDict(extra="forbid", strict=True)

    product_id: int = Field(ge=1, le=2_147_483_647)
    quantity: int = Field(1, ge=1, le=100)
    customer: str = Field("guest", min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")
    note: str = Field("", max_length=500, pattern=r"^[^\x00]*$")


class Shop:
    """The shop's use cases (product pages, search and orders) in one worker.

    Args:
        database: the worker's connection pool.
        cache: the worker's cache of product pages.
        search: the worker's search.
        products: the products, with the names for search results.
        threads: the threads for database statements.
        receipts: the file for one line per order.
        recorder: counts orders, and receipts that could not be written.
    """

    def __init__(
        self,
        *,
        database: ShopDatabase,
        cache: Cache,
        search: Search,
        products: Products,
        threads: Executor,
        receipts: Path,
        recorder: WorkerRecorder,
    ) -> None:
        self._database = database
        self._cache = cache
        self._search = search
        self._products = products
        self._threads = threads
        self._receipts = receipts
        self._recorder = recorder

    async def product(self, product_id: int) -> bytes:
        """Return a product page as JSON text, from the cache if possible.

        The keys of the page are `id`, `name`, `description`, `price_cents`, `in_stock` and `last_ordered_at`.

        Raises:
            NoSuchProductError: the product does not exist.
            DatabaseError: the page is not in the cache, and the database fails.
        """
        key = f"product:{product_id}"
        if (page := await self._cache.get(key)) is not None:
            return page
        page = await self._in_thread(lambda: self._load_product(product_id))
        await self._cache.put(key, page)
        return page

    async def find(self, text: str, top_k: int) -> dict[str, Any]:
        """Return the `top_k` products that are most similar to a text.

        The result has `query`, `top_k`, `results` (`id`, `name` and `score` of each product, nearest first) and
        `backend` (the name of the index that answered).

        Raises:
            SearchError: Qdrant is selected and fails, or FAISS is selected and both indexes fail.
        """
        backend, hits = await self._search.find(text, top_k)
        names = self._products.names
        results = [{"id": key, "name": names[key], "score": round(score, 6)} for key, score in hits]
        return {"query": text, "top_k": top_k, "backend": backend, "results": results}

    async def place(self, order: OrderRequest) -> dict[str, Any]:
        """Reduce the stock, store the order, write its receipt to a file, and return the order as JSON.

        Stock and order change in one transaction, which is committed only if the receipt could be written.

        Raises:
            NoSuchProductError, OutOfStockError: the product does not exist, or its stock is too low.
            DatabaseError, StorageError: the order or its receipt cannot be stored.
        """
        placed = await self._in_thread(lambda: self._place(order))
        await self._cache.drop(f"product:{order.product_id}")
        return placed

    async def order(self, number: str) -> dict[str, Any]:
        """Return the order with this number as JSON.

        The result's field `recent_orders` has the numbers of the latest orders of the same customer.

        Raises:
            NoSuchOrderError: the order does not exist.
            DatabaseError: the database fails.
        """
        if "\x00" in number:
            # PostgreSQL stores no texts with NUL, so no order has this number. The driver's error would count as a
            # failure of the database.
            raise NoSuchOrderError(f"There is no order {number!r}.")
        return await self._in_thread(lambda: self._load_order(number))

    async def _in_thread(self, work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _load_product(self, product_id: int) -> bytes:
        with self._database.read() as connection:
            row = connection.exec_driver_sql(SQL_PRODUCT, (product_id,)).one_or_none()
        if row is None:
            raise NoSuchProductError(f"There is no product {product_id}.")
        page = {
            "id": row.id,
            "name": row.name,
            "description": row.description,
            "price_cents": row.price_cents,
            "in_stock": row.quantity,
            "last_ordered_at": row.last_ordered_at.isoformat() if row.last_ordered_at else None,
        }
        return json.dumps(page, separators=(",", ":")).encode()

    def _place(self, order: OrderRequest) -> dict[str, Any]:
        number = new_id()
        values = {**order.model_dump(), "number": number}
        with self._database.write() as connection:
            if connection.exec_driver_sql(SQL_TAKE, values).one_or_none() is None:
                if connection.exec_driver_sql(SQL_IN_STOCK, (order.product_id,)).one_or_none() is None:
                    raise NoSuchProductError(f"There is no product {order.product_id}.")
                raise OutOfStockError(f"There are less than {order.quantity} of product {order.product_id}.")
            row = connection.exec_driver_sql(SQL_INSERT, values).one()
            self._write_receipt(number, order, row.total_cents)
        self._recorder.event("orders_placed")
        return {
            "id": number,
            "product_id": order.product_id,
            "quantity": order.quantity,
            "customer": order.customer,
            "total_cents": row.total_cents,
            "created_at": row.created_at.isoformat(),
        }

    def _write_receipt(self, number: str, order: OrderRequest, total_cents: int) -> None:
        receipt = {
            "time": log_time(SystemClock().now_us()),
            "order": number,
            "product_id": order.product_id,
            "quantity": order.quantity,
            "total_cents": total_cents,
        }
        try:
            append_line(self._receipts, json.dumps(receipt, separators=(",", ":")).encode() + b"\n")
        except StorageError:
            self._recorder.event("receipt_errors")
            raise

    def _load_order(self, number: str) -> dict[str, Any]:
        with self._database.read() as connection:
            row = connection.exec_driver_sql(SQL_ORDER, (number,)).one_or_none()
            if row is None:
                raise NoSuchOrderError(f"There is no order {number!r}.")
            recent = connection.exec_driver_sql(SQL_RECENT, (row.customer, RECENT_ORDERS)).scalars().all()
        return {
            "id": row.number,
            "product_id": row.product_id,
            "quantity": row.quantity,
            "customer": row.customer,
            "total_cents": row.total_cents,
            "created_at": row.created_at.isoformat(),
            "recent_orders": list(recent),
        }


def receipts_path(data_dir: Path, worker: int) -> Path:
    """Return the path of the file to which this worker appends a receipt for each order."""
    return data_dir / f"receipts-{worker}.jsonl"
