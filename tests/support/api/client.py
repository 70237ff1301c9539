"""The API in this process: a client on loopback, and its jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from relab.bootstrap import Services, build
from relab.server import create_app
from support.api.one_call import OneCallClient
from support.clocks import MovableClock

LOOPBACK_URL = "http://127.0.0.1:8000"
OTLP_PATHS = ("/v1/traces", "/v1/logs", "/v1/metrics", "/api/public/otel/v1/traces")
"""The routes whose error responses have OTLP's form."""


def at_time(services: Services, clock: MovableClock) -> Services:
    """Return services of the same installation with the clock `clock`; the caller closes them."""
    return build(services.settings, clock=clock)


def loopback_client(app: FastAPI, *, client_host: str = "127.0.0.1", url: str = LOOPBACK_URL) -> TestClient:
    """Return a client that calls from this machine; the app runs while it is entered."""
    return OneCallClient(app, base_url=url, client=(client_host, 50_000), follow_redirects=False)


@contextmanager
def running_api(services: Services) -> Iterator[TestClient]:
    """Run the app of these services and yield a client of it."""
    with loopback_client(create_app(services)) as client:
        yield client


def run_jobs(services: Services) -> int:
    """Run every job that can run now and return their number."""
    runner = services.runner()
    count = 0
    while runner.run_next():
        count += 1
    return count


def assert_refusal(response: Any, status: int, code: str) -> str:
    """Assert that the response rejects the request in the form of its route, and return the reason."""
    if response.request.url.path not in OTLP_PATHS:
        return str(assert_problem(response, status, code)["detail"])
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"code", "message"}
    assert body["code"] == {401: 16, 403: 7}[status]
    return str(body["message"])


def assert_problem(response: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """Assert that the response is an RFC 9457 problem document of that status, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["type"].startswith("urn:relab:problem:")
    assert problem["request_id"] == response.headers["x-request-id"]
    if code is not None:
        assert problem["type"] == f"urn:relab:problem:{code}"
    return problem


def fields_of(problem: dict[str, Any]) -> list[str]:
    """Return the fields that a problem document names."""
    return [error["field"] for error in problem["errors"]]


def read_events(text: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the `(id, data)` pairs of a finished event stream, without its comments."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            events.append((int(fields["id"]), json.loads(fields["data"])))
    return events
