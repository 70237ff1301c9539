"""Whole installations of relab as real processes, in both set-ups: SQLite, and PostgreSQL with Redis."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from sqlalchemy import text

from relab.storage import Database
from rig.servers import PostgresServer, RedisServer
from support.lab.process import LabProcess
from support.storage.migrated import create_migrated

BACK_ENDS = ("sqlite+embedded", "postgres+rq")
FAST_RECOVERY = {"RELAB_JOBS__LEASE_S": "1", "RELAB_JOBS__SWEEP_INTERVAL_S": "0.5"}
"""Settings with which another worker takes over the job of a dead worker within about 2 s."""

_numbers = itertools.count()


@dataclass(frozen=True)
class Installation:
    """A home and settings that several processes share.

    Attributes:
        database_url: the URL of the database, which tests can query too.
        settings: environment variables of every process.
    """

    home: Path
    database_url: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def on_sqlite(cls, home: Path, **settings: str) -> Self:
        """Return an installation with the defaults, SQLite and the embedded queue, and these settings."""
        return cls(home, f"sqlite:///{home / 'relab.db'}", settings)

    @classmethod
    def on_postgres(cls, home: Path, server: PostgresServer, redis: RedisServer | None, **settings: str) -> Self:
        """Return an installation on a new, migrated database, with RQ if `redis` is given."""
        name = f"lab_{os.getpid()}_{next(_numbers)}"
        url = create_migrated(server, name)
        found = {"DATABASE_URL": url, **settings}
        if redis is not None:
            found |= {"REDIS_URL": redis.url, "RQ_QUEUE_NAME": name}
        return cls(home, url, found)

    @property
    def has_embedded_workers(self) -> bool:
        """Whether `lab serve` starts a worker by default."""
        return "REDIS_URL" not in self.settings

    def serve(self, *options: str, prefix: Sequence[str] = (), fresh: bool = False) -> LabProcess:
        """Return `lab serve`, not yet started; see `LabProcess` for `prefix` and `fresh`."""
        return LabProcess.serve(self.home, *options, settings=self.settings, prefix=prefix, fresh=fresh)

    def worker(self, *, fresh: bool = False) -> LabProcess:
        """Return `lab worker`, not yet started."""
        return LabProcess.worker(self.home, settings=self.settings, fresh=fresh)

    def query(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Query the database on a separate connection."""
        database = Database.open(self.database_url)
        try:
            with database.read() as session:
                return [tuple(row) for row in session.execute(text(statement), values)]
        finally:
            database.close()

    def jobs_by_status(self) -> dict[str, int]:
        """Return the number of jobs by status."""
        return dict(self.query("SELECT status, count(*) FROM jobs GROUP BY status"))  # type: ignore[arg-type]

    def job_status(self, job_id: str) -> str:
        """Return the status of a job; the job of an analysis has the id of the analysis."""
        return str(self.query("SELECT status FROM jobs WHERE job_id = :job_id", job_id=job_id)[0][0])


@contextmanager
def running_lab(request: pytest.FixtureRequest, home: Path, *, fresh: bool = False, **settings: str) -> Iterator[Lab]:
    """Run the installation that `request.param` names (see `BACK_ENDS`); see `LabProcess` for `fresh`."""
    if request.param == "sqlite+embedded":
        installation = Installation.on_sqlite(home, **settings)
    else:
        postgres = request.getfixturevalue("postgres")
        redis_server = request.getfixturevalue("redis_server")
        installation = Installation.on_postgres(home, postgres, redis_server, **settings)
    with ExitStack() as stack:
        if not installation.has_embedded_workers:
            stack.enter_context(installation.worker(fresh=fresh))
        server = stack.enter_context(installation.serve(fresh=fresh))
        yield stack.enter_context(Lab(installation, server))


class Lab:
    """A client that speaks HTTP to a server."""

    def __init__(self, installation: Installation, server: LabProcess) -> None:
        self.installation = installation
        self.server = server
        self.http = server.client()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def post_run(self, body: bytes | dict[str, Any]) -> dict[str, Any]:
        """Post an agent run and return the receipt; the run may already be stored."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.http.post("/agent-runs", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in {200, 201}, answer.text
        return _object(answer)

    def request_analysis(self, agent_run_id: str, **query: str) -> str:
        """Request an analysis and return its id."""
        answer = self.http.post(f"/agent-runs/{agent_run_id}/rca-runs", params=query)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["rca_run_id"])

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """Get a JSON object."""
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return _object(answer)

    def analysis(self, rca_run_id: str) -> dict[str, Any]:
        """Return the current state of an analysis."""
        return self.get(f"/agent-runs/rca-runs/{rca_run_id}")

    def finished(self, rca_run_id: str) -> dict[str, Any]:
        """Follow an analysis until it ends and return it."""
        self.stream_lines(rca_run_id)
        found = self.analysis(rca_run_id)
        assert found["status"] in {"done", "failed"}
        return found

    def analyse(self, agent_run_id: str) -> dict[str, Any]:
        """Run an analysis of an agent run and return its report."""
        found = self.finished(self.request_analysis(agent_run_id))
        assert found["status"] == "done", found["error"]
        report: dict[str, Any] = found["report"]
        return report

    def stream_lines(self, rca_run_id: str) -> list[str]:
        """Follow an analysis like `curl -N` until the stream ends, and return its lines."""
        with self.http.stream("GET", f"/rca-runs/{rca_run_id}/stream") as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            return list(answer.iter_lines())


def events_of(lines: list[str]) -> list[dict[str, Any]]:
    """Return the data of an event stream: the JSON of its `data:` lines."""
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def uncited(report: Mapping[str, Any]) -> set[str]:
    """Return the evidence ids that claims of a report cite and that its index does not contain."""
    claims = [*report["findings"], *report["hypotheses"], *([report["attribution"]] if report["attribution"] else [])]
    cited = {evidence_id for claim in claims for evidence_id in claim["evidence_ids"]}
    return cited - {item["evidence_id"] for item in report["evidence_index"]}


def _object(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()
    return found
