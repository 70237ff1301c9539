"""Requests for analyses: each content of a run is analysed once, even if requests are repeated or concurrent."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.bootstrap import Services
from relab.jobs.errors import JobListenerError, PermanentJobError
from relab.jobs.models import Subscription
from relab.jobs.runner import JobRunner
from relab.rca.handlers import RcaHandlers
from relab.rca.service import ANALYZE_JOB
from support.api.client import assert_problem, fields_of, read_events, run_jobs
from support.telemetry.runs import failed_run, minimal_run


@pytest.fixture
def posted(api: TestClient, run_id: str) -> str:
    """The id of a stored run that failed."""
    assert api.post("/agent-runs", json=failed_run(run_id)).status_code == 201
    return run_id


def request_rca(api: TestClient, run_id: str, **query: Any) -> tuple[str, bool]:
    response = api.post(f"/agent-runs/{run_id}/rca-runs", params=query)
    assert response.status_code == 202, response.text
    return response.json()["rca_run_id"], response.json()["created"]


def fail_jobs(services: Services) -> None:
    """Run every queued analysis job with a handler that fails permanently."""

    def refuse(_: Mapping[str, Any]) -> None:
        raise PermanentJobError("the analysis cannot be done \x1b[2J")

    parked = RcaHandlers(services.rca).analysis_parked
    runner = JobRunner(services.database, services.clock, [Subscription(ANALYZE_JOB, refuse, parked)], lease_s=15)
    while runner.run_next():
        pass


def test_an_analysis_goes_from_queued_to_done(api: TestClient, installation: Services, posted: str) -> None:
    rca_run_id, created = request_rca(api, posted)
    queued = api.get(f"/agent-runs/rca-runs/{rca_run_id}").json()
    run_jobs(installation)
    done = api.get(f"/agent-runs/rca-runs/{rca_run_id}").json()

    assert created
    assert queued["status"] == "queued"
    assert queued["report"] is None
    assert queued["started_at"] is None
    assert done["rca_run_id"] == rca_run_id
    assert done["run_id"] == posted
    assert done["status"] == "done"
    assert done["error"] is None
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]
    report = done["report"]
    assert report["category"] == "tool_schema_mismatch"
    assert report["insufficient_evidence"] is False
    known = {item["evidence_id"] for item in report["evidence_index"]}
    assert "ev_tool_c1" in known
    for claim in [*report["hypotheses"], *report["findings"], report["attribution"]]:
        assert set(claim["evidence_ids"]) <= known
    assert report["hypotheses"][0]["verification_steps"]
    assert report["action_items"]
    assert api.get(f"/agent-runs/{posted}").json()["category"] == "tool_schema_mismatch"


def test_repeated_request_returns_the_same_analysis_in_every_state(
    api: TestClient, installation: Services, posted: str
) -> None:
    first, _ = request_rca(api, posted)
    assert request_rca(api, posted) == (first, False)

    entered, leave = threading.Event(), threading.Event()

    def analyze_slowly(args: Mapping[str, Any]) -> None:
        entered.set()
        assert leave.wait(60)
        installation.rca.analyze(args["rca_run_id"])

    slow = [Subscription(ANALYZE_JOB, analyze_slowly)]
    runner = JobRunner(installation.database, installation.clock, slow, lease_s=15)
    worker = threading.Thread(target=runner.run_next, args=(first,))
    worker.start()
    assert entered.wait(60)
    assert request_rca(api, posted) == (first, False)
    leave.set()
    worker.join()

    assert api.get(f"/agent-runs/rca-runs/{first}").json()["status"] == "done"
    assert request_rca(api, posted) == (first, False)
    api.post("/agent-runs", json=failed_run(posted))
    assert request_rca(api, posted) == (first, False), "posting the same content again changes nothing"


def test_forced_analysis_becomes_the_current_one(api: TestClient, posted: str) -> None:
    first, _ = request_rca(api, posted)
    second, created = request_rca(api, posted, force="true")

    assert created
    assert second != first
    assert request_rca(api, posted, force="false") == (second, False)
    assert api.get(f"/agent-runs/rca-runs/{first}").status_code == 200


def test_changed_content_is_analysed_again(api: TestClient, installation: Services, posted: str) -> None:
    first, _ = request_rca(api, posted)
    run_jobs(installation)
    api.post("/agent-runs", json=failed_run(posted, error_message="now otherwise"))

    second, created = request_rca(api, posted)

    assert created
    assert second != first


def test_analysis_whose_run_changed_before_it_started_is_not_reused(
    api: TestClient, installation: Services, posted: str
) -> None:
    first, _ = request_rca(api, posted)
    api.post("/agent-runs", json=minimal_run(posted))
    run_jobs(installation)
    api.post("/agent-runs", json=failed_run(posted))

    second, created = request_rca(api, posted)

    assert created
    assert second != first


def test_failed_analysis_is_not_reused(api: TestClient, installation: Services, posted: str) -> None:
    run_jobs(installation)
    first, _ = request_rca(api, posted)
    fail_jobs(installation)
    failed = api.get(f"/agent-runs/rca-runs/{first}").json()

    second, created = request_rca(api, posted)

    assert failed["status"] == "failed"
    assert "cannot be done" in failed["error"]
    assert created
    assert second != first
    events = read_events(api.get(f"/rca-runs/{first}/stream").text)
    assert [(data["status"], data["pct"]) for _, data in events] == [("failed", 100)]


def test_analysis_of_a_deleted_run_is_not_reused_for_a_new_run_with_its_id(
    api: TestClient, installation: Services, posted: str
) -> None:
    first, _ = request_rca(api, posted)
    run_jobs(installation)
    assert api.delete(f"/agent-runs/{posted}").status_code == 204
    assert api.post("/agent-runs", json=failed_run(posted)).status_code == 201
    second, created = request_rca(api, posted)
    assert created is True
    assert second != first
    run_jobs(installation)
    assert api.get(f"/agent-runs/rca-runs/{second}").json()["status"] == "done"
    assert api.get(f"/agent-runs/rca-runs/{first}").status_code == 404


def test_job_of_a_deleted_analysis_is_done_without_work(api: TestClient, installation: Services, posted: str) -> None:
    rca_run_id, _ = request_rca(api, posted)
    content = installation.telemetry.get_content(posted)
    assert api.delete(f"/agent-runs/{posted}").status_code == 204
    installation.rca.delete_for_runs([posted], content.received_at + 10**9)
    run_jobs(installation)
    assert installation.queue.get(rca_run_id).status == "done"


def test_analysis_fails_when_its_job_is_dropped(api: TestClient, installation: Services, posted: str) -> None:
    rca_run_id, _ = request_rca(api, posted)
    installation.drop_job(rca_run_id)
    dropped = api.get(f"/agent-runs/rca-runs/{rca_run_id}").json()
    assert dropped["status"] == "failed"
    assert dropped["error"] == "The job was dropped before it was done."
    assert [event["status"] for _, event in read_events(api.get(f"/rca-runs/{rca_run_id}/stream").text)] == ["failed"]
    again, created = request_rca(api, posted)
    assert created is True
    assert again != rca_run_id


def test_dropped_job_whose_listener_fails_is_an_error(
    installation: Services, posted: str, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    rca_run_id, _ = request_rca(api, posted)

    def fail(*_args: Any) -> None:
        raise RuntimeError("The disk is gone.")

    job = installation.queue.get(rca_run_id)
    (subscription,) = [each for each in installation.subscriptions() if each.name == job.name and each.on_parked]
    broken = dataclasses.replace(subscription, on_parked=fail)
    monkeypatch.setattr(installation, "subscriptions", lambda *_: [broken])

    with pytest.raises(JobListenerError) as caught:
        installation.drop_job(rca_run_id)

    assert rca_run_id in caught.value.message
    assert "The disk is gone." in caught.value.message


@pytest.mark.parametrize("force", [False, True])
def test_concurrent_requests_create_one_analysis_unless_forced(
    api: TestClient, installation: Services, posted: str, force: bool
) -> None:
    barrier = threading.Barrier(8)

    def ask(_: int) -> tuple[str, bool]:
        barrier.wait()
        receipt = installation.rca.request(posted, force=force)
        return receipt.rca_run_id, receipt.created

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))

    ids = {rca_run_id for rca_run_id, _ in answers}
    assert len(ids) == sum(created for _, created in answers) == (8 if force else 1)
    current, created = request_rca(api, posted)
    assert not created
    assert current in ids


def test_concurrent_requests_over_http_create_one_analysis(api: TestClient, posted: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: request_rca(api, posted), range(8)))

    assert len({rca_run_id for rca_run_id, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1


def test_the_analyses_of_a_run_are_listed_newest_first(api: TestClient, installation: Services, posted: str) -> None:
    ids = [request_rca(api, posted, force="true")[0] for _ in range(3)]
    run_jobs(installation)

    listed = api.get(f"/agent-runs/{posted}/rca-runs").json()
    limited = api.get(f"/agent-runs/{posted}/rca-runs", params={"limit": 1}).json()

    assert [item["rca_run_id"] for item in listed] == ids[::-1]
    assert {item["status"] for item in listed} == {"done"}
    assert {item["report"] for item in listed} == {None}
    assert [item["rca_run_id"] for item in limited] == ids[-1:]


def test_a_run_without_analyses_has_an_empty_list(api: TestClient, posted: str) -> None:
    assert api.get(f"/agent-runs/{posted}/rca-runs").json() == []


@pytest.mark.parametrize("path", ["/agent-runs/rca-runs/{}", "/rca-runs/{}/stream"])
@pytest.mark.parametrize("unknown", ["nope", "00000000-0000-7000-8000-000000000000", "x" * 200, "ü", "timeline"])
def test_unknown_analyses_are_not_found(api: TestClient, path: str, unknown: str) -> None:
    assert_problem(api.get(path.format(unknown)), 404, "rca_run_not_found")


@pytest.mark.parametrize("path", ["/agent-runs/rca-runs/{}", "/rca-runs/{}/stream"])
@pytest.mark.parametrize("bad", ["x" * 201, "a%00b", "%0A"])
def test_ids_that_no_analysis_can_have_are_invalid(api: TestClient, path: str, bad: str) -> None:
    assert fields_of(assert_problem(api.get(path.format(bad)), 422)) == ["path.rca_run_id"]


@pytest.mark.parametrize("force", ["maybe", "2", "\x00"])
def test_force_that_is_no_boolean_is_rejected(api: TestClient, posted: str, force: str) -> None:
    response = api.post(f"/agent-runs/{posted}/rca-runs", params={"force": force})

    assert fields_of(assert_problem(response, 422)) == ["query.force"]
    assert api.get(f"/agent-runs/{posted}/rca-runs").json() == []
