"""Prometheus metrics of builds: counters that all processes share, bounded labels, and queries without table scans."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import delete, event, insert, text
from starlette.testclient import TestClient

from relab.api.metrics import family_of
from relab.bootstrap import Services
from relab.builds import totals
from relab.builds.models import Build, BuildConfiguration, BuildFailure, BuildResult, BuildStatus
from relab.builds.store import BuildStore
from relab.builds.tables import BuildRow
from relab.core.ids import new_id
from relab.storage import Database, counters
from relab.storage.base import table_of
from support.api.client import running_api

FAILED = BuildResult(
    status=BuildStatus.FAILED, failure=BuildFailure.OUT_OF_MEMORY, duration_s=20.0, peak_memory_mb=100.0
)
PASSED = BuildResult(status=BuildStatus.SUCCESS, duration_s=100.0, peak_memory_mb=700.0)
MIB = 1_048_576


def new_build(project: str) -> Build:
    return Build(
        build_id=new_id(),
        project=project,
        input_digest="d",
        configuration=BuildConfiguration(),
        sandbox="local",
        started_at=1,
        result=BuildResult(status=BuildStatus.RUNNING),
    )


def run_build(database: Database, result: BuildResult, *, project: str = "engine") -> Build:
    """Store a finished build in two steps, as the process that runs the build does, and return its record."""
    store, build = BuildStore(database), new_build(project)
    store.add(build)
    build = build.model_copy(update={"result": result})
    store.finish(build, "log")
    return build


def scrape(api: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    response = api.get("/metrics")
    assert response.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if sample.name.startswith("relab_build")
    }


def value(found: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_ended_builds_are_counted_with_duration_and_memory(services: Services) -> None:
    run_build(services.database, FAILED)
    run_build(services.database, PASSED)
    run_build(services.database, PASSED)
    BuildStore(services.database).add(new_build("engine"))

    with running_api(services) as api:
        found = scrape(api)

    failed = {"project": "engine", "status": "failed"}
    passed = {"project": "engine", "status": "success"}
    assert value(found, "relab_builds_total", **failed, failure="out_of_memory") == 1
    assert value(found, "relab_builds_total", **passed, failure="") == 2
    assert value(found, "relab_builds_running") == 1
    assert value(found, "relab_build_duration_seconds_count", **passed) == 2
    assert value(found, "relab_build_duration_seconds_sum", **passed) == 200
    assert value(found, "relab_build_duration_seconds_bucket", **passed, le="60.0") == 0
    assert value(found, "relab_build_duration_seconds_bucket", **passed, le="120.0") == 2
    assert value(found, "relab_build_duration_seconds_bucket", **failed, le="30.0") == 1
    assert value(found, "relab_build_peak_memory_bytes_sum", **failed) == 100 * MIB
    assert value(found, "relab_build_peak_memory_bytes_bucket", **failed, le=str(64.0 * MIB)) == 0
    assert value(found, "relab_build_peak_memory_bytes_bucket", **failed, le=str(128.0 * MIB)) == 1


def test_decisions_and_rewards_are_counted(services: Services) -> None:
    with running_api(services) as api:
        decided = api.get("/get_best_action", params={"policy": "fixed:5", "project": "a name of a user"}).json()
        api.get("/get_best_action", params={"policy": "fixed:5"})
        url = f"/builds/decisions/{decided['decision_id']}/outcome"
        for _ in range(2):
            api.post(url, json={"status": "success", "duration": 30, "reference": 60})
        found = scrape(api)
        is_named = "a name of a user" in api.get("/metrics").text

    assert value(found, "relab_build_decisions_total", policy="fixed:5", action_id="5") == 2
    assert value(found, "relab_build_decision_reward_count", policy="fixed:5") == 1
    assert value(found, "relab_build_decision_reward_sum", policy="fixed:5") == pytest.approx(2 / 3)
    assert not is_named


def test_suggestions_are_counted_by_category(services: Services) -> None:
    with running_api(services) as api:
        api.post("/suggest_fix", json={"error": "Out of memory during build"}).raise_for_status()
        for _ in range(2):
            api.post("/suggest_fix", json={"error": "The moon is full"}).raise_for_status()
        found = scrape(api)

    assert value(found, "relab_build_suggestions_total", category="memory") == 1
    assert value(found, "relab_build_suggestions_total", category="") == 2


def test_build_whose_end_is_stored_twice_is_counted_once(services: Services) -> None:
    build = run_build(services.database, FAILED)
    BuildStore(services.database).finish(build, None)

    with running_api(services) as api:
        found = scrape(api)

    labels = {"project": "engine", "status": "failed", "failure": "out_of_memory"}
    assert value(found, "relab_builds_total", **labels) == 1


def test_counters_do_not_decrease_when_builds_are_deleted(services: Services) -> None:
    run_build(services.database, PASSED)
    with running_api(services) as api:
        before = scrape(api)
        with services.database.write() as unit:
            unit.session.execute(text("DELETE FROM build_logs"))
            unit.session.execute(delete(table_of(BuildRow)))
        after = scrape(api)

    assert after == before


def test_servers_on_one_database_export_the_same_totals(services: Services) -> None:
    other = Database.open(services.settings.database_url.get_secret_value())
    threads = [
        threading.Thread(target=lambda at=at: [run_build(at, PASSED) for _ in range(10)], name=f"runner-{number}")
        for number, at in enumerate((services.database, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()

    with running_api(services) as first, running_api(services) as second:
        found = [scrape(first), scrape(second)]

    labels = {"project": "engine", "status": "success", "failure": ""}
    assert [value(one, "relab_builds_total", **labels) for one in found] == [20, 20]


HOSTILE = ('a"b\\c{d="e"}', "line\u2028break", "\u202egnirts", "\ud800", "=cmd|' /C calc'!A0", "x" * 199 + "\U0001f600")


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_project_name_is_one_label_value(database: Database, name: str) -> None:
    build = new_build(name)
    with database.write() as unit:
        totals.count_build(unit.session, build.model_copy(update={"result": PASSED}))
    with database.read() as session:
        (series,) = counters.read(session, [totals.BUILDS])

    family = family_of(series)
    (sample,) = family.samples
    assert sample.labels["project"] == name.replace("\ud800", "?")
    assert sample.value == 1


def test_number_of_projects_with_their_own_series_is_bounded(services: Services) -> None:
    for number in range(totals.MAX_PROJECTS + 10):
        run_build(services.database, PASSED, project=f"project-{number}")
    run_build(services.database, PASSED, project="project-0")

    with running_api(services) as api:
        found = scrape(api)

    counted = {
        dict(labels)["project"]: number for (name, labels), number in found.items() if name == "relab_builds_total"
    }
    assert len(counted) == totals.MAX_PROJECTS + 1
    assert counted["project-0"] == 2
    assert counted[totals.OTHER_PROJECTS] == 10


def test_scrape_scans_no_table_of_records(services: Services) -> None:
    template = run_build(services.database, PASSED)
    document = template.model_dump(mode="json")
    rows = [
        {
            "build_id": new_id(), "project": f"p{number % 40}", "status": "failed" if number % 3 else "success",
            "failure": None, "started_at": 1, "document": document,
        }
        for number in range(5_000)
    ]  # fmt: skip
    with services.database.write() as unit:
        unit.session.execute(insert(table_of(BuildRow)), rows)
        unit.session.execute(text("ANALYZE"))

    with running_api(services) as api:
        statements: list[tuple[str, Any]] = []

        def record(*arguments: Any) -> None:
            if arguments[2].startswith("SELECT"):
                statements.append((arguments[2], arguments[3]))

        event.listen(services.database.engine, "before_cursor_execute", record)
        scrape(api)
        event.remove(services.database.engine, "before_cursor_execute", record)

    assert any("FROM builds" in sql for sql, _ in statements)
    assert any("FROM counters" in sql for sql, _ in statements)
    for sql, plan in plans(services.database, statements):
        for table in ("builds", "rca_runs", "incidents", "incident_acts", "rollouts"):
            if f"FROM {table} " in f"{sql} ".replace("\n", " "):
                assert is_indexed(plan), (sql, plan)


def plans(database: Database, statements: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    """Return each statement with its query plan; PostgreSQL avoids sequential scans wherever an index can be used."""
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    found = []
    with database.read() as session:
        connection = session.connection()
        if not database.is_sqlite:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for sql, values in statements:
            rows = connection.exec_driver_sql(f"{explain} {sql}", values)
            found.append((sql, "\n".join(" ".join(map(str, row)) for row in rows)))
    return found


def is_indexed(plan: str) -> bool:
    return "Seq Scan" not in plan and ("INDEX" in plan or "Index" in plan)


def test_simulated_builds_are_counted_with_their_durations(api: TestClient) -> None:
    builds = [
        api.get("/simulate_build", params={"fault": "memory", "seed": 7}).json(),
        api.post("/simulate_build", json={"fault": "memory", "seed": 7}).json(),
    ]

    text_of_metrics = api.get("/metrics").text

    found = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text_of_metrics)
        for sample in family.samples
    }
    labels = {"status": "failed", "failure": "out_of_memory"}
    assert {(build["status"], build["failure"]) for build in builds} == {("failed", "out_of_memory")}
    assert value(found, "relab_simulated_build_duration_seconds_count", **labels) >= 2
    assert value(found, "relab_simulated_build_duration_seconds_sum", **labels) >= 2 * builds[0]["duration"]
