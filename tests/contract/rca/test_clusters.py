"""Clusters of failed runs, and analyses of many runs, alike on both kinds of installation."""

from __future__ import annotations

from typing import Any

import pytest

from relab.bootstrap import Services
from relab.core.cursor import InvalidCursorError, encode_cursor
from relab.jobs.models import Lane
from relab.rca.models import Category
from relab.rca.service import ANALYZE_JOB
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import RunFilter
from support.api.client import running_api
from support.telemetry.runs import RunBody, failed_run, minimal_run, time_text, tool_call


def timed_out(run_id: str, tool: str = "search", **fields: Any) -> RunBody:
    call = tool_call("c", tool_name=tool, status="failure", error_message="timed out", error_class="TimeoutError")
    return failed_run(run_id, tool_calls=[call], **fields)


def post(services: Services, *bodies: RunBody) -> None:
    for body in bodies:
        services.telemetry.ingest(check_agent_run(body))


def run_all(services: Services) -> None:
    runner = services.runner()
    while runner.run_next():
        pass


def analyse_all(services: Services, *, force: bool = False) -> None:
    page = services.telemetry.failed.list(RunFilter(), limit=100)
    services.rca.request_batch({run.run_id: run.content for run in page}, force=force)
    run_all(services)


def test_variant_of_a_trial_is_no_version_since_which_runs_fail(services: Services) -> None:
    trial = {"environment": "experiment", "experiment": {"variant_id": "concise"}, "agent_version": "concise"}
    post(
        services,
        timed_out("run_1.trial_1", started_at=time_text(0), **trial),
        timed_out("r1", agent_version="2.0.0", started_at=time_text(1)),
    )
    analyse_all(services)

    (cluster,) = services.rca.clusters.list().items
    assert (cluster.runs, cluster.first_run, cluster.first_version) == (2, "run_1.trial_1", None)
    assert "since version" not in cluster.sentence
    assert cluster.last_version == "2.0.0"


def test_runs_with_the_same_failure_are_one_cluster_with_first_and_last_run(services: Services) -> None:
    versions = ("2.0.0", "2.1.0", "2.1.0")
    post(
        services,
        *(timed_out(f"r{n}", agent_version=version, started_at=time_text(n)) for n, version in enumerate(versions)),
        timed_out("other", tool="lookup", agent_name="clerk"),
        minimal_run("good"),
    )
    analyse_all(services)

    page = services.rca.clusters.list()
    first, second = page.items
    assert (page.clusters, page.runs) == (2, 4)
    assert (first.runs, first.first_run, first.last_run) == (3, "r0", "r2")
    assert (first.first_version, first.last_version) == ("2.0.0", "2.1.0")
    assert first.category is Category.TIMEOUT
    assert first.sentence.startswith(
        "3 runs failed the same way, first seen at 2024-01-15T10:30:00Z, since version 2.0.0"
    )
    assert second.agents == ("clerk",)
    assert services.rca.clusters.of_run("r1") == first
    assert services.rca.clusters.of_run("good") is None
    assert [item.last_run for item in services.rca.clusters.list(agent_name="clerk").items] == ["other"]
    assert services.rca.clusters.list(since_us=first.last_at).items[0].runs == 1
    assert services.rca.clusters.list(category=Category.PLANNER_LOOP).items == []
    assert services.rca.clusters.count_by_category() == [("timeout", 2, 4)]


def test_clusters_are_listed_page_by_page_the_largest_first(services: Services) -> None:
    sizes = {"alpha": 3, "beta": 1, "gamma": 2, "delta": 1, "epsilon": 1}
    post(services, *(timed_out(f"{tool}-{n}", tool=tool) for tool, size in sizes.items() for n in range(size)))
    analyse_all(services)
    reader = services.rca.clusters

    pages = [reader.list(limit=2)]
    while pages[-1].next_cursor is not None:
        pages.append(reader.list(cursor=pages[-1].next_cursor, limit=2))
    found = [item for page in pages for item in page.items]
    assert [len(page.items) for page in pages] == [2, 2, 1]
    assert [item.runs for item in found] == [3, 2, 1, 1, 1]
    assert len({item.cluster for item in found}) == 5
    assert {(page.clusters, page.runs) for page in pages} == {(5, 8)}
    with pytest.raises(InvalidCursorError):
        reader.list(cursor="WyJhIl0")
    with pytest.raises(InvalidCursorError):
        reader.list(cursor=encode_cursor((2**63, "c")))


def test_run_counts_once_by_its_newest_analysis_until_it_succeeds_or_is_deleted(services: Services) -> None:
    post(services, timed_out("r0"), timed_out("r1"))
    analyse_all(services)
    analyse_all(services, force=True)
    assert services.rca.clusters.list().runs == 2

    post(services, minimal_run("r0"))
    services.rca.request("r0")
    run_all(services)
    assert services.rca.clusters.list().runs == 1

    services.telemetry.delete("r1")
    run_all(services)
    assert services.rca.clusters.list().items == []


def test_clusters_are_listed_over_http_and_counted_in_metrics(services: Services) -> None:
    post(services, timed_out("r0"))
    analyse_all(services)
    with running_api(services) as client:
        found = client.get("/rca/clusters", params={"category": "timeout", "started_after": "2024-01-01T00:00:00Z"})
        assert client.get("/rca/clusters", params={"category": "nonsense"}).status_code == 422
        assert client.get("/rca/clusters", params={"started_after": "x"}).status_code == 422
        assert client.get("/rca/clusters", params={"limit": 0}).status_code == 422
        metrics = client.get("/metrics").text

    assert [item["last_run"] for item in found.json()["items"]] == ["r0"]
    assert 'relab_rca_clusters{category="timeout"} 1.0' in metrics
    assert 'relab_rca_clustered_runs{category="timeout"} 1.0' in metrics


def test_report_says_how_many_runs_failed_the_same_way(services: Services) -> None:
    post(services, timed_out("r0"))
    analyse_all(services)
    [first] = services.rca.list_for_run("r0")
    assert services.rca.notes.of(first.rca_run_id).recurrence is None

    post(services, timed_out("r1"))
    analyse_all(services)
    assert str(services.rca.notes.of(first.rca_run_id).recurrence).startswith("2 runs failed the same way")


def test_batch_delays_a_person_by_at_most_one_analysis(services: Services) -> None:
    post(services, *(timed_out(f"r{n}") for n in range(6)))
    page = services.telemetry.failed.list(RunFilter(), limit=5)
    receipts = services.rca.request_batch({run.run_id: run.content for run in page})
    assert services.queue.count_unfinished(ANALYZE_JOB, Lane.BACKGROUND) == 5
    asked = services.rca.request("r0" if "r0" not in receipts else "r5").rca_run_id
    promoted = services.rca.request(page[-1].run_id).rca_run_id

    runner = services.runner()
    assert runner.run_next()
    assert runner.run_next()
    done = {each for each, found in services.rca.summaries([asked, promoted]).items() if found.status == "done"}
    assert done == {asked, promoted}


def test_batch_uses_an_existing_analysis_unless_forced(services: Services) -> None:
    post(services, timed_out("r0"))
    contents = {run.run_id: run.content for run in services.telemetry.failed.list(RunFilter())}
    first = services.rca.request_batch(contents)["r0"]

    assert first.created
    assert services.rca.request_batch(contents)["r0"].rca_run_id == first.rca_run_id
    assert services.rca.request_batch(contents, force=True)["r0"].created


def test_failed_runs_are_listed_page_by_page_newest_first(services: Services) -> None:
    post(services, *(timed_out(f"r{n}", started_at=time_text(n // 2)) for n in range(5)), minimal_run("good"))
    failed = services.telemetry.failed
    seen: list[str] = []
    after = None
    while page := failed.list(RunFilter(agent_name="shop-agent"), after=after, limit=2):
        seen += [run.run_id for run in page]
        after = page[-1]

    assert seen == ["r4", "r3", "r2", "r1", "r0"]
    assert failed.count(RunFilter()) == 5
    assert failed.count(RunFilter(agent_name="nobody")) == 0


@pytest.mark.parametrize("ids", [[], ["x"]])
def test_summaries_of_unknown_analyses_are_left_out(services: Services, ids: list[str]) -> None:
    assert services.rca.summaries(ids) == {}
