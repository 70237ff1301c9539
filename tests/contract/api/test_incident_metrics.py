"""Prometheus metrics of the responder: incidents by outcome, durations, and whether the target is watched."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from relab.bootstrap import Services
from relab.incidents.actions.records import ActionStatus
from relab.incidents.storage.models import IncidentOutcome
from rig.waiting import wait_until
from support.api.client import running_api
from support.incidents.acts import NOW_US
from support.incidents.logs import SECOND_US, asked, opened

NOBODY = "http://127.0.0.1:9"
"""The URL of an unused port."""
TARGET = "127.0.0.1:9"


def scrape(api: TestClient) -> dict[str, float]:
    """Return the values of the responder's samples by name with labels, as `name{label=value}`."""
    response = api.get("/metrics")
    assert response.status_code == 200
    return {
        f"{sample.name}{{{','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))}}}": sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if sample.name.startswith(("relab_incident", "relab_responder"))
    }


def test_unwatched_target_has_only_incident_metrics(services: Services) -> None:
    with running_api(services) as api:
        assert scrape(api) == {}
        opened(services.incidents.log, "shop")
        found = scrape(api)

    assert found == {"relab_incidents{outcome=,status=open,target=shop}": 1}


def test_incidents_are_counted_by_outcome_and_duration(services: Services) -> None:
    log = services.incidents.log
    with running_api(services) as api:
        for seconds, outcome in (
            (20, IncidentOutcome.RESOLVED),
            (200_000, IncidentOutcome.RESOLVED),
            (-60, IncidentOutcome.PASSED),
        ):
            incident_id = opened(log, "shop").incident_id
            log.actions.put(asked(incident_id))
            log.close(incident_id, at_us=NOW_US + seconds * SECOND_US, outcome=outcome)
        log.actions.finish(asked(incident_id).key, ActionStatus.REFUSED, at_us=NOW_US)
        found = scrape(api)

    assert found["relab_incidents{outcome=resolved,status=resolved,target=shop}"] == 2
    assert found["relab_incidents{outcome=passed,status=closed,target=shop}"] == 1
    buckets = {le: found[f"relab_incident_seconds_bucket{{le={le},outcome=resolved,target=shop}}"] for le in BOUNDS}
    assert list(buckets.values()) == [0, 1, 1, 2]
    assert found["relab_incident_seconds_gsum{outcome=resolved,target=shop}"] == 200_020
    assert found["relab_incident_seconds_gsum{outcome=passed,target=shop}"] == 0, "a clock that was set back"
    assert found["relab_incident_actions{status=asked,target=shop}"] == 2
    assert found["relab_incident_actions{status=refused,target=shop}"] == 1


BOUNDS = ("10.0", "30.0", "86400.0", "+Inf")


def test_metrics_show_whether_the_target_is_watched(make_services: Callable[..., Services]) -> None:
    services = make_services(
        target_api_base_url=NOBODY, action_server_url=NOBODY, action_server_token="t", poll_interval_seconds=300.0
    )
    with running_api(services) as api:
        wait_until(lambda: api.get("/agent/status").json()["polls"] == 1, what="the first poll")
        api.post("/agent/pause")
        found = scrape(api)
        now_us = services.clock.now_us()

    def of(name: str) -> float:
        return found[f"relab_responder_{name}{{target={TARGET}}}"]

    assert of("leading") == 1
    assert of("paused") == 1
    assert of("polls_total") == 1
    assert 0 <= now_us / 1e6 - of("last_poll_timestamp_seconds") < 3_600
