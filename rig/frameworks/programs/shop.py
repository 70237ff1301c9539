"""Shared by all programs: the tools of a shop, which succeed or really fail, depending on the case, and `run`.

It runs in the environment of a framework, so it imports only the standard library.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import socket
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

CASE = sys.argv[1]
SESSION_ID = os.environ["SHOP_SESSION_ID"]
USER_ID = os.environ["SHOP_USER_ID"]
QUESTIONS: Mapping[str, str] = json.loads(os.environ["SHOP_QUESTIONS"])
MODELS: Mapping[str, str] = json.loads(os.environ["SHOP_MODELS"])
STEP_LIMIT = int(os.environ["SHOP_STEP_LIMIT"])
BASE_URL = os.environ["OPENAI_BASE_URL"]
INSTRUCTIONS = "You answer questions about orders of a shop. Use the tools."
SERVICE = "shop"

_reached = threading.Event()
"""Set when a tool has ended, or waits without end."""
_LOG = Path(os.environ["SHOP_LOG"])
if CASE == "cancelled_first":
    _reached.set()


def question() -> str:
    """Return the question of a case that asks one agent."""
    (asked,) = QUESTIONS.values()
    return asked


def order_lookup(order_id: str, customer_id: str) -> str:
    """Look up the state of an order.

    Args:
        order_id: the number of the order.
        customer_id: the number of the customer who ordered.
    """
    return _called("order_lookup", _find_order, order_id=order_id, customer_id=customer_id)


async def slow_order_lookup(order_id: str, customer_id: str) -> str:
    """Look up the state of an order.

    Args:
        order_id: the number of the order.
        customer_id: the number of the customer who ordered.
    """
    _reached.set()
    await asyncio.sleep(60)
    return order_lookup(order_id, customer_id)


slow_order_lookup.__name__ = "order_lookup"


async def cancelled(asked: Coroutine[Any, Any, Any]) -> Any:
    """Ask an agent, and cancel it while it waits for its tool, or for its model, the first or after the tool has answered.

    Raises:
        TimeoutError: always, as the caller of an agent gets it that takes too long.
    """
    task = asyncio.ensure_future(asked)
    reached = asyncio.create_task(asyncio.to_thread(_reached.wait))
    await asyncio.wait((task, reached), return_when=asyncio.FIRST_COMPLETED)
    _reached.set()  # an agent that failed earlier must not leave a thread that waits
    await asyncio.sleep(1)  # until the model is called with the result of the tool, if there is one
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        raise TimeoutError("the caller gave up") from None


def stock_level(sku: str) -> str:
    """Count the pieces of an article that are in stock.

    Args:
        sku: the number of the article.
    """
    return _called("stock_level", _count, sku=sku)


def refund(order_id: str, amount_eur: float) -> str:
    """Refund a part of the price of an order.

    Args:
        order_id: the number of the order.
        amount_eur: how much, in euros.
    """
    return _called("refund", _pay_back, order_id=order_id, amount_eur=amount_eur)


def _find_order(order_id: str, customer_id: str) -> dict[str, Any]:
    if CASE in {"handled_error", "raised_error"} or (CASE in {"streamed", "two_agents"} and order_id == "A-17"):
        # Query a database without tables, so that the database itself raises the error.
        sqlite3.connect(":memory:").execute("SELECT state FROM orders WHERE order_id = ?", (order_id,))
    if CASE == "recovered" and not _LOG.read_text():
        # Bind and close a port, so that no program listens on it.
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
        socket.create_connection(address, timeout=5).close()
    if CASE == "loop":
        return {"state": "being synchronised, ask again"}
    return {"state": "shipped", "carrier": "Northpost", "arrives": "2026-11-25", "for": [customer_id]}


def _count(sku: str) -> dict[str, Any]:
    return {"pieces": 12, "of": [sku]}


def _pay_back(order_id: str, amount_eur: float) -> dict[str, Any]:
    return {"refund_id": "R-1", "of": [order_id, amount_eur]}


def _called(tool: str, work: Callable[..., dict[str, Any]], **arguments: Any) -> str:
    """Run a tool, and log the call with its result or its error."""
    call: dict[str, Any] = {"tool": tool, "arguments": arguments}
    try:
        found = json.dumps(work(**arguments))
    except Exception as error:
        call["error"] = {"class": type(error).__name__, "message": str(error)}
        raise
    else:
        call["result"] = found
        return found
    finally:
        with _LOG.open("a") as log:
            log.write(json.dumps(call) + "\n")
        _reached.set()


def run(case: Callable[[], Any], flush: Callable[[], Any]) -> None:
    """Run a case, export its telemetry with `flush`, and print the answer, or answers by agent, or the exception."""
    ended: dict[str, Any] = {"answer": None, "raised": None}
    try:
        answer = case()
        ended["answer"] = asyncio.run(answer) if inspect.iscoroutine(answer) else answer
    except Exception as error:  # noqa: BLE001 every exception that reaches the agent's caller is recorded
        traceback.print_exc()
        ended["raised"] = {"class": type(error).__name__, "message": str(error)}
    flush()
    print("ENDED " + json.dumps(ended))
