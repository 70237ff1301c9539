"""A real Prometheus scrapes two real servers on one database with the shipped configuration, and answers every panel."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rig.servers import free_port
from rig.waiting import wait_until
from support.builds.projects import write_project
from support.components.alerting import Program, prometheus
from support.components.required import require_program
from support.lab.installation import Installation
from support.lab.process import LabProcess, run_lab
from support.monitoring.files import PROMETHEUS, Query, panel_queries, rule_queries
from support.telemetry.runs import failed_run

pytestmark = [pytest.mark.full]

WITH_DATA = frozenset(
    {
        "builds: Running", "builds: Ended in the last hour", "builds: Failed in the last hour",
        "builds: Builds per hour by status", "builds: Failed share by project", "builds: Failures per hour by kind",
        "builds: Duration by project, 95th percentile", "builds: Peak memory by project, 95th percentile",
        "builds: Decisions per hour by action", "builds: Mean reward by policy",
        "ingest: Servers up", "ingest: Answered with 5xx", "ingest: Spans that wait", "ingest: Requests by status",
        "ingest: Slowest routes, 99th percentile",
        "rca: Oldest waiting job", "rca: Parked jobs", "rca: Runs that await their analysis", "rca: Jobs by status",
        "rca: Analyses by category",
        "incidents: Open incidents", "incidents: Last poll", "incidents: Leaders", "incidents: Paused",
        "incidents: Polls per second",
        "rollouts: In progress", "rollouts: Failed in the last day", "rollouts: Rollouts by status",
    }
)  # fmt: skip
"""Panels that have data after builds, decisions, polls and an analysis; the others may be empty."""


@dataclass
class Scraped:
    """Servers with data, and the Prometheus that scrapes them."""

    observer: Program
    server: LabProcess

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        answer = self.observer.get("/api/v1/query", query=expr.replace("$__rate_interval", "30s"))
        assert answer["status"] == "success"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def number(self, expr: str) -> float:
        """Return the value of a query with one sample; -1 if it is empty."""
        found = self.query(expr)
        return float(found[0]["value"][1]) if found else -1.0


def write_config(folder: Path, *servers: LabProcess) -> Path:
    """Copy the shipped configuration with these servers and short intervals."""
    copy = Path(shutil.copytree(PROMETHEUS, folder / "configuration"))
    (copy / "relab-read.token").write_text("unused while there is no token")
    config = copy / "prometheus.yml"
    addresses = ", ".join(f'"{server.url.removeprefix("http://")}"' for server in servers)
    text = config.read_text()
    for given, other in (('"127.0.0.1:8000"', addresses), ("15s", "1s"), ('"127.0.0.1:9093"', '"127.0.0.1:9"')):
        assert given in text
        text = text.replace(given, other)
    head, _, rest = text.partition("    authorization:\n")
    config.write_text(head + rest[rest.index("    static_configs:") :])
    return config


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    require_program("prometheus", ".ci/system-packages")
    folder = tmp_path_factory.mktemp("monitoring")
    # Nothing answers at the target, so the responder's polls fail.
    nowhere = f"http://127.0.0.1:{free_port()}"
    installation = Installation.on_sqlite(
        folder / "home", TARGET_API_BASE_URL=nowhere, ACTION_SERVER_URL=nowhere, ACTION_SERVER_TOKEN="t",
        POLL_INTERVAL_SECONDS="1",
    )  # fmt: skip
    with (
        installation.serve() as server,
        installation.serve("--only", "builds") as other,
        prometheus(folder, write_config(folder, server, other)) as observer,
    ):
        made = Scraped(observer, server)
        build_twice(installation, folder, made)
        with server.client() as client:
            client.post("/agent-runs", json=failed_run("r")).raise_for_status()
            client.post("/agent-runs/r/rca-runs").raise_for_status()
        yield made


def build_twice(installation: Installation, folder: Path, made: Scraped) -> None:
    """Run two builds, one of which fails, twice: before and after a scrape, so that counters increase."""
    script = 'if [ -n "$CACHE" ]; then exit 0; fi; sleep 0.3; echo "error: it needs the cache"; exit 1\n'
    write_project(folder / "project", script, sandbox="local")
    command = ("builds", "run", str(folder / "project"), "--set", "retries=1", "--policy", "fixed:1")
    for passes in (1, 2):
        done = run_lab(*command, home=installation.home, settings=installation.settings)
        assert done.returncode == 0, done.stderr
        _wait_for_both_servers(made, passes)


def _wait_for_both_servers(made: Scraped, failed: int) -> None:
    expr = f'count(relab_builds_total{{status="failed"}} == {failed})'
    wait_until(lambda: made.number(expr) == 2, what="the totals of both servers in Prometheus")


def test_servers_export_equal_totals_and_the_rules_count_them_once(scraped: Scraped) -> None:
    totals = scraped.query('relab_builds_total{project="tiny", status="failed"}')
    assert [sample["value"][1] for sample in totals] == ["2", "2"]

    def counted_once() -> bool:
        # Two builds since the first scrape with builds; Prometheus extrapolates to the window.
        once = scraped.number('sum(increase(relab_builds_total{job="relab"}[1h])) / 2')
        # A rule is evaluated once per second, so it may not include the last scrapes yet.
        return once > 0 and scraped.number("sum(relab:builds:increase1h)") == pytest.approx(once, rel=0.5)

    wait_until(counted_once, what="the recording rules")


@pytest.mark.parametrize("query", panel_queries(), ids=lambda query: query.where)
def test_prometheus_answers_the_query_of_each_panel(scraped: Scraped, query: Query) -> None:
    if query.where in WITH_DATA:
        wait_until(lambda: scraped.query(query.expr) != [], what=f"data of {query.where}")
    else:
        scraped.query(query.expr)


@pytest.mark.parametrize("query", rule_queries(), ids=lambda query: query.where)
def test_prometheus_answers_the_query_of_each_rule(scraped: Scraped, query: Query) -> None:
    scraped.query(query.expr)


def test_all_rules_are_healthy(scraped: Scraped) -> None:
    def states() -> set[str]:
        groups = scraped.observer.get("/api/v1/rules")["data"]["groups"]
        return {rule["health"] for group in groups for rule in group["rules"]}

    wait_until(lambda: "unknown" not in states(), what="the first evaluation of all rules")
    assert states() == {"ok"}
