"""Rollouts that measure a service's own traffic, whose requests read the flag through the OpenFeature SDK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.components.alerting import scraping
from support.components.required import require_program
from support.flags.contents import document
from support.flags.openfeature_sdk import Application, openfeature_client
from support.lab.installation import Installation
from support.lab.process import LabProcess
from support.rollouts.live_shop import live_shop
from support.rollouts.small_service import small_service

KEY = "checkout-version"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    with Installation.on_sqlite(tmp_path_factory.mktemp("lab")).serve() as started:
        yield started


@pytest.fixture
def application(request: pytest.FixtureRequest, server: LabProcess) -> Iterator[Application]:
    """The code of a service with a new flag, which gives all users the variant `stable`."""
    key = f"{KEY}.{request.node.name.split('[')[0][:100]}"
    content = document(variants={"canary": True, "stable": False}, default_variant="stable")
    with server.client() as http, openfeature_client(server.url) as client:
        assert http.post("/flags", json={"key": key, "content": content}).status_code == 201
        yield Application(client, key, names=("canary", "stable"))


def run_live(server: LabProcess, application: Application, metric: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Run a rollout on the application's own traffic by the server's worker, and return its record."""
    plan = {
        "timeout": 20,
        "experiment": {"window_sec": 0.5, "warmup_sec": 0.1, "rounds": 8},
        "thresholds": {"max_error_rate": 2},
        "subject": {
            "live": True,
            "flags": {"kind": "product_flag", "key": application.key, "a": "stable", "b": "canary"},
            "metric": metric,
        },
        **fields,
    }
    with server.client() as http:
        posted = http.post("/rollouts", json=plan)
        assert posted.status_code == 202, posted.text
        follow(http, posted.headers["Location"])
        record: dict[str, Any] = http.get(posted.headers["Location"]).json()
    assert record["status"] == "done", record["error"]
    return record


def follow(http: httpx.Client, path: str) -> None:
    """Read the event stream of a rollout until the rollout has ended."""
    with http.stream("GET", f"{path}/stream", timeout=100) as stream:
        assert stream.status_code == 200
        for _ in stream.iter_lines():
            pass


def json_metric(url: str) -> dict[str, Any]:
    return {
        "kind": "json",
        "url": f"{url}/figures?arm=$arm&from=$start&to=$end",
        "pointer": "/p95",
        "requests": "/requests",
        "errors": "/errors",
    }


def is_measured_side_by_side(record: dict[str, Any]) -> bool:
    """Return whether both windows of each round cover the same time, and each window has requests."""
    rounds: dict[int, set[float]] = {}
    for window in record["windows"]:
        rounds.setdefault(window["round"], set()).add(window["started_at"])
    return all(len(starts) == 1 for starts in rounds.values()) and all(
        window["completed"] > 0 and not window["problems"] for window in record["windows"]
    )


def test_better_variant_is_applied_to_all_users_of_the_service(server: LabProcess, application: Application) -> None:
    canary = {"steps": [80, 100], "step_sec": 0.5, "guard": {"max_error_rate": 2, "max_delta_p95": 25}}
    work = {"stable": (0.1, True), "canary": (0.05, True)}
    with small_service() as service, live_shop(application, work.__getitem__) as shop:
        service.figures = shop.figures
        sent: list[str] = []
        service.on_work = lambda: sent.append("a request that is not the service's own")

        record = run_live(server, application, json_metric(service.url), canary=canary, base_url=service.url)

    assert record["judgement"]["verdict"] == "PASS", record["judgement"]
    assert record["application"]["applied"], record["application"]
    assert is_measured_side_by_side(record)
    assert len(record["windows"]) == 16
    assert sent == []
    assert all(len(variants) == 1 for given in application.variants.values() for variants in given.values())
    assert application.variants_of_all() == {"canary"}


def test_failing_variant_is_rolled_back_for_all_users_of_the_service(
    server: LabProcess, application: Application
) -> None:
    requests = iter(range(1_000_000))

    def work(variant: str) -> tuple[float, bool]:
        return 0.05, not (variant == "canary" and next(requests) % 4 == 0)

    with small_service() as service, live_shop(application, work) as shop:
        service.figures = shop.figures
        record = run_live(server, application, json_metric(service.url), base_url=service.url)

    assert record["judgement"]["verdict"] == "FAIL", record["judgement"]
    assert record["flags_restored"] is True
    assert application.variants_of_all() == {"stable"}


@pytest.mark.full
def test_own_traffic_is_judged_by_queries_of_a_real_prometheus(
    server: LabProcess, application: Application, tmp_path: Path
) -> None:
    require_program("prometheus", ".ci/system-packages")
    work = {"stable": (0.098, True), "canary": (0.048, True)}
    with live_shop(application, work.__getitem__) as shop, scraping(tmp_path, shop.registry) as url:
        # The plan of docs/rollouts.md, with shorter windows.
        metric = {
            "kind": "prometheus",
            "url": url,
            "query": 'histogram_quantile(0.95, sum by (le) (rate(request_seconds_bucket{version="$arm"}[$window])))',
            "requests": 'sum(increase(requests_total{version="$arm"}[$window]))',
            "errors": 'sum(increase(requests_total{version="$arm",code=~"5.."}[$window])) or vector(0)',
            "delay_s": 0.5,
        }
        experiment = {"window_sec": 3.0, "warmup_sec": 0.3, "rounds": 2}
        record = run_live(server, application, metric, experiment=experiment, policy="seed")

    assert record["judgement"]["verdict"] == "PASS", [
        (w["arm"], w["metric"], w["completed"], w["problems"]) for w in record["windows"]
    ]
    assert is_measured_side_by_side(record)
    for window in record["windows"]:
        if window["arm"] == "A":
            assert 0.095 < window["metric"] <= 0.1
        else:
            assert 0.045 < window["metric"] <= 0.05
    assert application.variants_of_all() == {"canary"}
