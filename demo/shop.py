"""The back end of the demo's tools: a small shop, without HTTP.

Every endpoint has its own rules (required fields, a quota for each API key, scopes, a search over articles), so every
failure of an agent has a real reason.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Clock: TypeAlias = Callable[[], float]
"""A function that returns seconds that never decrease, such as `time.monotonic`."""

STANDARD_KEY = "key-standard"
TRIAL_KEY = "key-trial"


@dataclass(frozen=True)
class Request:
    """A request to an endpoint of the shop; `fields` come from the JSON body or from the query."""

    fields: Mapping[str, str]
    api_key: str | None


@dataclass(frozen=True)
class Answer:
    """The answer of an endpoint: a status, a JSON object and additional headers."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


Silence: TypeAlias = Literal["silence"]
"""The result of an endpoint that accepts the request and never answers it."""


@dataclass(frozen=True)
class Plan:
    """The rights of an API key: requests per sliding window, and scopes."""

    name: str
    requests: int
    window_s: float
    scopes: frozenset[str]


PLANS = {
    STANDARD_KEY: Plan("standard", requests=3, window_s=1.0, scopes=frozenset({"orders:read"})),
    TRIAL_KEY: Plan("trial", requests=3, window_s=60.0, scopes=frozenset({"orders:read"})),
}

CUSTOMERS = {f"customer{number}@example.com": f"C-{1000 + number}" for number in range(1, 10)}

ORDERS = {
    f"{number}": (f"C-{1000 + number - 5000}", state)
    for number, state in zip(
        range(5001, 5010),
        ("packed", "in transit", "delivered", "in transit", "packed", "customs", "in transit", "delivered", "packed"),
        strict=True,
    )
}

ARTICLES = (
    ("Where is my order?", "Most orders arrive within 3 to 5 days. Please be patient."),
    ("How long does a refund take?", "A refund reaches the account within 14 days."),
    ("Which countries do you ship to?", "We ship to every country of the European Union."),
    ("How do I change my password?", "Open the account page and choose 'New password'."),
)

STOP_WORDS = frozenset(
    {
        "a",
        "an",
        "be",
        "can",
        "do",
        "does",
        "for",
        "how",
        "i",
        "is",
        "it",
        "my",
        "of",
        "the",
        "to",
        "where",
        "which",
        "with",
        "you",
    }
)


def words(text: str) -> frozenset[str]:
    """Return the words of `text` in lower case, without stop words, for the search."""
    return frozenset(re.findall(r"[a-z]+", text.lower())) - STOP_WORDS


class Quota:
    """A limit of requests for each API key in a sliding window of time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._used: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def wait_needed_s(self, api_key: str, plan: Plan) -> float:
        """Count one request; return 0 if it is allowed, otherwise the seconds until it would be allowed."""
        with self._lock:
            now = self._clock()
            used = self._used.setdefault(api_key, deque())
            while used and now - used[0] >= plan.window_s:
                used.popleft()
            if len(used) >= plan.requests:
                return used[0] + plan.window_s - now
            used.append(now)
            return 0.0


class Shop:
    """The endpoints of the shop. The HTTP server only calls `answer`."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._quota = Quota(clock)
        self._routes: dict[tuple[str, str], Callable[[Request], Answer | Silence]] = {
            ("POST", "/customers/search"): self._find_customer,
            ("POST", "/orders/lookup"): self._find_order,
            ("POST", "/invoices"): self._make_invoice,
            ("GET", "/parcels"): self._track_parcel,
            ("POST", "/refunds"): self._pay_refund,
            ("GET", "/stock"): self._check_stock,
            ("GET", "/help"): self._search_help,
            ("POST", "/labels"): self._print_label,
            ("POST", "/points"): self._credit_points,
        }

    def answer(self, method: str, path: str, request: Request) -> Answer | Silence:
        """Return the answer to a request; an unknown route gives 404, an unknown API key 401."""
        if request.api_key not in PLANS:
            return Answer(401, {"error": "unauthorized", "message": "The API key is not known."})
        route = self._routes.get((method, path))
        if route is None:
            return Answer(404, {"error": "not_found", "message": f"There is no {method} {path}."})
        return route(request)

    def _plan(self, request: Request) -> tuple[str, Plan]:
        assert request.api_key is not None, "answer() lets only known keys through"
        return request.api_key, PLANS[request.api_key]

    def _find_customer(self, request: Request) -> Answer:
        if missing := _missing(request, "email"):
            return missing
        customer_id = CUSTOMERS.get(request.fields["email"])
        if customer_id is None:
            return Answer(404, {"error": "not_found", "message": "No customer has this email address."})
        return Answer(200, {"customer_id": customer_id})

    def _find_order(self, request: Request) -> Answer:
        if missing := _missing(request, "order_number", "customer_id"):
            return missing
        number = request.fields["order_number"]
        owner, state = ORDERS.get(number, ("", ""))
        if owner != request.fields["customer_id"]:
            return Answer(404, {"error": "not_found", "message": f"The customer has no order {number}."})
        return Answer(200, {"order_number": number, "message": f"Order {number}: {state}."})

    def _make_invoice(self, request: Request) -> Answer:
        # Version 2 of this endpoint also requires the customer; agents written for version 1 do not send it.
        if missing := _missing(request, "order_number", "customer_id"):
            return missing
        return Answer(201, {"message": f"The invoice for order {request.fields['order_number']} is on its way."})

    def _track_parcel(self, request: Request) -> Answer:
        if missing := _missing(request, "parcel"):
            return missing
        api_key, plan = self._plan(request)
        wait_s = self._quota.wait_needed_s(api_key, plan)
        if wait_s > 0:
            message = f"The {plan.name} plan allows {plan.requests} requests in {plan.window_s:g} s."
            headers = {"Retry-After": str(math.ceil(wait_s))}
            return Answer(429, {"error": "too_many_requests", "message": message}, headers)
        parcel = request.fields["parcel"]
        return Answer(200, {"parcel": parcel, "message": f"Parcel {parcel} is in transit."})

    def _pay_refund(self, request: Request) -> Answer:
        if missing := _missing(request, "order_number"):
            return missing
        _, plan = self._plan(request)
        if "refunds:write" not in plan.scopes:
            message = f"This API key lacks the scope refunds:write (it has {', '.join(sorted(plan.scopes))})."
            return Answer(403, {"error": "forbidden", "message": message})
        return Answer(201, {"message": f"The refund for order {request.fields['order_number']} is paid."})

    def _check_stock(self, request: Request) -> Answer | Silence:
        if missing := _missing(request, "sku"):
            return missing
        return "silence"  # The stock system behind this endpoint hangs.

    def _search_help(self, request: Request) -> Answer:
        if missing := _missing(request, "question"):
            return missing
        wanted = words(request.fields["question"])
        hits = [{"title": title, "text": text} for title, text in ARTICLES if wanted & words(title)]
        body: dict[str, object] = {"hits": hits, "total": len(hits)}
        if hits:
            body["message"] = hits[0]["text"]
        return Answer(200, body)

    def _print_label(self, request: Request) -> Answer:
        if missing := _missing(request, "order_number"):
            return missing
        return Answer(200, {"state": "incomplete", "note": "Choose the carrier of the return first."})

    def _credit_points(self, request: Request) -> Answer:
        if missing := _missing(request, "customer_id"):
            return missing
        message = "The points ledger is out of balance by 12 on shard 3."
        return Answer(500, {"error": "ledger_out_of_balance", "message": message})


def _missing(request: Request, *names: str) -> Answer | None:
    missing = [name for name in names if not request.fields.get(name)]
    if not missing:
        return None
    listed = ", ".join(f"'{name}'" for name in missing)
    return Answer(400, {"error": "validation_error", "message": f"Missing required field: {listed}", "fields": missing})
