"""A client of the public HTTP API for evaluations: it posts runs, requests analyses, and waits for their reports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from evals.datasets.source import Body
from evals.quotation import Check, Report, check_report

CONCURRENCY = 8
ANALYSIS_TIMEOUT_S = 300.0
"""The time limit from request to report of one analysis in seconds, including its wait for `CONCURRENCY - 1` others."""

BUSY = frozenset({429, 503})
BUSY_ATTEMPTS = 8
REQUEST_TIMEOUT_S = 60.0


@dataclass
class Outcome:
    """The outcome of one run of the evaluation.

    Attributes:
        dataset: the name of the run's data set.
        body: the request body that posts the run.
        accepted: whether the server accepted the run; None until it answered.
        reason: the server's reason for a rejection; None without one.
        crash: an error that must never occur: a 5xx, a lost connection, a failed or endless analysis; None without one.
        report: the report, once the analysis is done.
        check: the result of the check of that report.
        analysis_s: seconds from the request for the analysis to its report.
    """

    dataset: str
    body: Body
    accepted: bool | None = None
    reason: str | None = None
    crash: str | None = None
    report: Report | None = None
    check: Check = field(default_factory=Check)
    analysis_s: float | None = None

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return str(self.body["run_id"])


Stage = Callable[[httpx.AsyncClient, Outcome], Awaitable[None]]


async def run_stage(
    client: httpx.AsyncClient, stage: Stage, outcomes: Sequence[Outcome], done: Callable[[], None]
) -> None:
    """Apply a stage to all outcomes in order, `CONCURRENCY` at a time.

    A transport error is recorded in the outcome as a crash, and the other outcomes continue: the evaluation counts such
    runs instead of ending at the first one.

    Args:
        client: the client of the server.
        stage: `post_run` or `analyse`.
        outcomes: the outcomes, which the stage changes.
        done: called after each outcome, for a progress bar.
    """
    waiting = iter(outcomes)

    async def work() -> None:
        for outcome in waiting:
            try:
                await stage(client, outcome)
            except httpx.TransportError as error:
                outcome.crash = f"{type(error).__name__}: {error}"
            done()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(work())


async def post_run(client: httpx.AsyncClient, outcome: Outcome) -> None:
    """Post the run of an outcome, and record in the outcome whether the server accepted it."""
    response = await _request(client, "POST", "/agent-runs", json=outcome.body)
    outcome.accepted = response.status_code in {httpx.codes.OK, httpx.codes.CREATED}
    if response.is_server_error:
        outcome.crash = f"POST /agent-runs answered {response.status_code}: {problem_reason(response)}"
    elif not outcome.accepted:
        outcome.reason = problem_reason(response)


async def analyse(client: httpx.AsyncClient, outcome: Outcome) -> None:
    """Request the root cause analysis of an accepted run, wait for its report, and record its check in the outcome."""
    asked_at = time.perf_counter()
    response = await _request(client, "POST", f"/agent-runs/{quote(outcome.run_id, safe='')}/rca-runs")
    pause_s = 0.02
    while response.is_success:
        response = await _request(client, "GET", f"/agent-runs/rca-runs/{response.json()['rca_run_id']}")
        if response.is_success and _settle(outcome, response.json(), waited_s=time.perf_counter() - asked_at):
            return
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.5)
    outcome.crash = f"{response.request.method} rca-runs answered {response.status_code}: {problem_reason(response)}"


def _settle(outcome: Outcome, rca_run: dict[str, Any], *, waited_s: float) -> bool:
    """Record the end of an analysis, or its time-out, in the outcome; return False while the analysis is running."""
    status = rca_run["status"]
    if status == "done":
        outcome.analysis_s = waited_s
        outcome.report = rca_run["report"]
        outcome.check = check_report(outcome.body, rca_run["report"])
    elif status == "failed":
        outcome.crash = f"the analysis failed: {rca_run['error']}"
    elif waited_s > ANALYSIS_TIMEOUT_S:
        outcome.crash = f"the analysis was still {status} after {waited_s:.0f} s"
    else:
        return False
    return True


def problem_reason(response: httpx.Response) -> str | None:
    """Return the detail or title of a problem document (RFC 9457), or None if the response has none."""
    if "json" not in response.headers.get("content-type", ""):
        return None
    try:
        problem: Any = response.json()
    except ValueError:
        return None
    if not isinstance(problem, dict):
        return None
    reason = problem.get("detail") or problem.get("title")
    return str(reason) if reason else None


async def _request(client: httpx.AsyncClient, method: str, path: str, json: Body | None = None) -> httpx.Response:
    """Send a request; while the server answers that it is busy, wait as long as Retry-After says and retry."""
    attempt = 1
    while True:
        response = await client.request(method, path, json=json)
        if response.status_code not in BUSY or attempt == BUSY_ATTEMPTS:
            return response
        attempt += 1
        await asyncio.sleep(_retry_after_s(response))


def _retry_after_s(response: httpx.Response) -> float:
    retry_after = response.headers.get("retry-after", "")
    return float(retry_after) if retry_after.isdecimal() else 1.0
