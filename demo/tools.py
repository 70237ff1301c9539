"""The agent's tools: each call is one real HTTP request with a deadline."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from demo.tool_server import RUN_HEADER

DEADLINE_S = 1.0


@dataclass(frozen=True)
class Tool:
    """The agent's description of a tool: its endpoint and its parameters.

    The description of `make_invoice` is that of version 1 of its endpoint, as an example of schema drift.
    """

    method: Literal["GET", "POST"]
    path: str
    parameters: tuple[str, ...]


TOOLS = {
    "find_customer": Tool("POST", "/customers/search", ("email",)),
    "find_order": Tool("POST", "/orders/lookup", ("order_number", "customer_id")),
    "make_invoice": Tool("POST", "/invoices", ("order_number",)),
    "track_parcel": Tool("GET", "/parcels", ("parcel",)),
    "pay_refund": Tool("POST", "/refunds", ("order_number",)),
    "check_stock": Tool("GET", "/stock", ("sku",)),
    "search_help": Tool("GET", "/help", ("question",)),
    "print_label": Tool("POST", "/labels", ("order_number",)),
    "credit_points": Tool("POST", "/points", ("customer_id",)),
}


@dataclass(frozen=True)
class Reply:
    """The reply of a tool: its status, its raw text and the JSON object in it."""

    status_code: int
    text: str
    body: dict[str, Any]


def open_client(base_url: str, deadline_s: float = DEADLINE_S) -> httpx.Client:
    """Return an HTTP client for the tools; each call may take `deadline_s` seconds. The caller closes it."""
    # Ignore proxy settings of the environment, because a proxy cannot reach this machine's loopback.
    return httpx.Client(base_url=base_url, timeout=deadline_s, trust_env=False, verify=False)


class Toolbox:
    """The tools of one run of an agent; each call sends the run's id and an API key."""

    def __init__(self, client: httpx.Client, *, agent_run_id: str, api_key: str) -> None:
        self._client = client
        self._headers = {RUN_HEADER: agent_run_id, "Authorization": f"Bearer {api_key}"}

    def call(self, tool_name: str, args: dict[str, str]) -> Reply:
        """Call a tool with these arguments, and return its reply.

        Raises:
            httpx.HTTPStatusError: the tool answered with a 4xx or 5xx status.
            httpx.TimeoutException: the tool did not answer within the deadline.
            httpx.TransportError: the connection failed.
        """
        tool = TOOLS[tool_name]
        if tool.method == "GET":
            response = self._client.get(tool.path, params=args, headers=self._headers)
        else:
            response = self._client.post(tool.path, json=args, headers=self._headers)
        response.raise_for_status()
        return Reply(response.status_code, response.text, json.loads(response.text))
