"""Postmortems over HTTP: each format, open and ended incidents, and a page that is safe to open in a browser."""

from __future__ import annotations

import itertools

import pytest
from starlette.testclient import TestClient

from relab.bootstrap import Services
from relab.incidents.storage.log import IncidentLog
from support.api.client import assert_problem
from support.incidents.stored import begun, mended

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

_numbers = itertools.count()


@pytest.fixture
def log(installation: Services) -> IncidentLog:
    return installation.incidents.log


@pytest.fixture
def path(installation: Services, log: IncidentLog) -> str:
    """The path of the postmortem of an ended incident."""
    incident_id = mended(log, f"told-{next(_numbers)}", installation.clock.now_us())
    return f"/agent/incidents/{incident_id}/postmortem"


@pytest.mark.parametrize(
    ("accept", "form", "media"),
    [
        ("*/*", None, "text/markdown"),
        (BROWSER, None, "text/html"),
        (BROWSER, "md", "text/markdown"),
        ("application/json", None, "application/json"),
        ("image/png", None, "text/markdown"),
        ("text/html;q=0.1, application/json", None, "application/json"),
        ("*/*", "html", "text/html"),
        ("text/html", "json", "application/json"),
    ],
)
def test_postmortem_has_the_requested_format(
    api: TestClient, path: str, accept: str, form: str | None, media: str
) -> None:
    answer = api.get(path, headers={"accept": accept}, params={"format": form} if form else {})

    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == media
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "accept" in answer.headers["vary"].lower()
    assert "restart-worker" in answer.text


def test_page_runs_only_its_own_scripts_and_sends_no_requests(api: TestClient, path: str) -> None:
    answer = api.get(path, params={"format": "html"})

    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "sandbox allow-scripts" in policy
    assert "allow-same-origin" not in policy
    assert "frame-ancestors 'none'" in policy


def test_json_has_marks_signals_actions_and_evidence(api: TestClient, path: str) -> None:
    told = api.get(path, params={"format": "json"}).json()

    assert told["is_over"] is True
    assert [mark["moment"] for mark in told["marks"]] == [
        "onset", "detection", "action", "verification", "action", "verification", "end",
    ]  # fmt: skip
    assert all(mark["at"].endswith("Z") for mark in told["marks"])
    (figure,) = told["signals"]
    assert figure["name"] == "errors.pct"
    assert len(figure["points"]) == 61
    assert [each["has_helped"] for each in told["actions"]] == [False, True]
    assert [each["evidence_id"] for each in told["evidence"]] == ["ev-7f3a"]


def test_open_incident_has_a_postmortem_of_its_progress(
    api: TestClient, installation: Services, log: IncidentLog
) -> None:
    incident_id = begun(log, f"told-{next(_numbers)}", installation.clock.now_us())
    path = f"/agent/incidents/{incident_id}/postmortem"

    assert "This incident is not over" in api.get(path).text
    assert "This incident is not over" in api.get(path, params={"format": "html"}).text
    told = api.get(path, params={"format": "json"}).json()
    assert told["is_over"] is False
    assert told["actions"] == []


def test_unknown_incident_and_unknown_format_are_rejected(api: TestClient, path: str) -> None:
    for form in ("md", "html", "json"):
        assert_problem(api.get("/agent/incidents/none/postmortem", params={"format": form}), 404, "incident_not_found")
    assert_problem(api.get(path, params={"format": "pdf"}), 422)
