"""A client for the part of the lab's HTTP API that the tour uses. It can be a pattern for your own client."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from relab.rca.models import Report
from relab.telemetry.outcome_models import RunOutcome
from relab.telemetry.overview_models import MetricsOverview

TIMEOUT_S = 30.0
"""The time-out of HTTP requests in seconds; longer than the interval between two heartbeats of a stream."""
FINAL_STATUSES = frozenset({"done", "failed"})


class LabError(Exception):
    """The lab rejected a request, or an analysis failed."""


@dataclass(frozen=True)
class Stage:
    """One progress event of an analysis; `pct` is the completed part in percent."""

    status: str
    step: str
    pct: float
    message: str


_STAGE = TypeAdapter(Stage)


class HttpClient:
    """A client of one HTTP server. Use it as a context manager, which closes its connections."""

    def __init__(self, base_url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=TIMEOUT_S, transport=transport, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()


class LabClient(HttpClient):
    """A client of one lab. Use it as a context manager, which closes its connections."""

    def ingest(self, run: Mapping[str, Any]) -> None:
        """Post a run to the lab.

        Raises:
            LabError: the lab rejected it.
        """
        checked(self._http.post("/agent-runs", json=run))

    def outcome(self, agent_run_id: str) -> RunOutcome:
        """Return the outcome of a stored run, which its status need not show.

        Raises:
            LabError: the run does not exist.
        """
        return RunOutcome(checked(self._http.get(f"/agent-runs/{quote(agent_run_id, safe='')}"))["outcome"])

    def request_rca(self, agent_run_id: str) -> str:
        """Request an analysis of a run and return the id of the analysis.

        Raises:
            LabError: the run does not exist, or the lab rejected the request.
        """
        response = self._http.post(f"/agent-runs/{quote(agent_run_id, safe='')}/rca-runs")
        return str(checked(response)["rca_run_id"])

    def follow(self, rca_run_id: str) -> Iterator[Stage]:
        """Yield the stages of an analysis as the lab streams them, including the final one.

        Raises:
            LabError: the analysis failed, or the stream ended before the analysis.
        """
        url = f"/rca-runs/{quote(rca_run_id, safe='')}/stream"
        with self._http.stream("GET", url, headers={"Accept": "text/event-stream"}) as response:
            if response.is_error:
                response.read()
            check_status(response)
            for data in event_data(response.iter_lines()):
                stage = _STAGE.validate_json(data)
                yield stage
                if stage.status == "failed":
                    raise LabError(f"The analysis {rca_run_id} failed: {stage.message}")
                if stage.status in FINAL_STATUSES:
                    return
        raise LabError(f"The stream of analysis {rca_run_id} ended before the analysis did.")

    def report(self, rca_run_id: str) -> Report:
        """Return the report of a finished analysis; its citations are checked again.

        Raises:
            LabError: there is no report.
        """
        body = checked(self._http.get(f"/agent-runs/rca-runs/{quote(rca_run_id, safe='')}"))
        if body["report"] is None:
            raise LabError(f"The analysis {rca_run_id} is {body['status']} and has no report: {body.get('error')}")
        return Report.load(body["report"])

    def overview(self, hours: int) -> MetricsOverview:
        """Return the figures of the last `hours` hours.

        Raises:
            LabError: the lab rejected the request.
        """
        return MetricsOverview.model_validate(checked(self._http.get("/metrics/overview", params={"hours": hours})))


def event_data(lines: Iterable[str]) -> Iterator[str]:
    """Yield the data of each server-sent event in the lines of a stream; skip comments, which serve as heartbeats."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []


def checked(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of a response.

    Raises:
        LabError: the lab rejected the request; the message is the lab's own.
    """
    check_status(response)
    body: dict[str, Any] = response.json()
    return body


def check_status(response: httpx.Response) -> None:
    """Check that the lab did not reject the request.

    Raises:
        LabError: the lab rejected the request; the message is the lab's own.
    """
    if not response.is_error:
        return
    problem = response.text
    if "json" in response.headers.get("Content-Type", ""):
        body = json.loads(problem)
        problem = body.get("detail") or body.get("title") or problem
    raise LabError(f"{response.request.method} {response.request.url.path} → {response.status_code}: {problem}")
