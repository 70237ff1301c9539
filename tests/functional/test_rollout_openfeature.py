"""A service that reads a flag through the real OpenFeature SDK sees each step of a canary as the plan says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from scipy.stats import binom

from support.flags.contents import document, rule
from support.flags.openfeature_sdk import USERS, Application, openfeature_client
from support.lab.installation import Installation
from support.lab.process import LabProcess
from support.rollouts.small_service import small_service

_keys = (f"checkout.search-{number}" for number in count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    with Installation.on_sqlite(tmp_path_factory.mktemp("lab")).serve() as started:
        yield started


@pytest.fixture
def http(server: LabProcess) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def application(server: LabProcess, http: httpx.Client) -> Iterator[Application]:
    """A service with a new flag without rules: every user has the variant `off`."""
    key = next(_keys)
    assert http.post("/flags", json={"key": key, "content": document()}).status_code == 201
    with openfeature_client(server.url) as client:
        yield Application(client, key)


def run_rollout(http: httpx.Client, url: str, application: Application, **canary: Any) -> dict[str, Any]:
    """Run a rollout of the application's flag by the server's worker, and return its record."""
    plan = {
        "base_url": url,
        "timeout": 30,
        "policy": "seed",
        "experiment": {"qps": 20, "window_sec": 0.4, "warmup_sec": 0, "rounds": 2, "order": "abab", "mix": "browse"},
        "subject": {
            "flags": {"kind": "product_flag", "key": application.key, "a": "off", "b": "on"},
            "metric": {"kind": "json", "url": f"{url}/figures?arm=$arm", "pointer": "/p95"},
        },
        "canary": {"step_sec": 0.4, **canary},
    }
    posted = http.post("/rollouts", json=plan)
    assert posted.status_code == 202, posted.text
    path = posted.headers["Location"]
    with http.stream("GET", f"{path}/stream", timeout=100) as stream:
        assert stream.status_code == 200
        for _ in stream.iter_lines():  # the stream ends with the rollout
            pass
    record: dict[str, Any] = http.get(path).json()
    assert record["status"] == "done", record["error"]
    return record


def share_pct(http: httpx.Client, key: str, version: int) -> float:
    """Return the share of arm B, in percent, in the rollout's rule in this version of a flag."""
    rules = http.get(f"/flags/{key}/versions/{version}").json()["content"]["rules"]
    if not rules:
        return 0.0
    serve = rules[0]["serve"]
    if serve.get("split"):
        return float(next(part["weight_bp"] for part in serve["split"] if part["variant"] == "on")) / 100
    return 100.0 if serve["variant"] == "on" else 0.0


def figures_of(path: str) -> dict[str, float]:
    """Return the metrics that the service reports: arm B is much faster."""
    return {"p95": 20.0 if parse_qs(urlsplit(path).query)["arm"] == ["on"] else 100.0}


def test_openfeature_sdk_sees_every_step_of_a_canary(http: httpx.Client, application: Application) -> None:
    assert application.variants_of_all() == {"off"}
    assert set().union(*application.reasons.values()) == {"STATIC"}

    def figures(path: str) -> dict[str, float]:
        # The rollout reads the metrics after each window and step, while the flags of that step are still in force.
        application.variants_of_all()
        return figures_of(path)

    with small_service(figures=figures) as service:
        service.answer = lambda _path: (0.0 if application.variant(application.next_user()) == "on" else 0.01, 200)
        record = run_rollout(http, service.url, application, steps=[10, 50, 100])

    assert record["judgement"]["verdict"] == "PASS", record["judgement"]
    assert record["application"]["applied"], record["application"]
    versions = sorted(application.variants)
    shares = {version: share_pct(http, application.key, version) for version in versions}
    assert list(shares.values()) == [0, 0, 100, 0, 100, 10, 50, 100]
    treated: list[set[str]] = []
    for version in versions:
        given = application.variants[version]
        assert given.keys() == set(USERS)
        assert all(len(variants) == 1 for variants in given.values())
        treated.append({user for user, variants in given.items() if variants == {"on"}})
        low, high = binom.interval(0.9999, len(USERS), shares[version] / 100)
        assert low <= len(treated[-1]) <= high
    tenth, half, everyone = treated[-3:]
    assert tenth < half < everyone == set(USERS)
    assert application.reasons[versions[-2]] == {"SPLIT"}
    assert application.variants_of_all() == {"on"}

    done = http.post(f"/rollouts/{record['rollout_id']}/rollback")

    assert done.status_code == 200, done.text
    assert application.variants_of_all() == {"off"}


def test_openfeature_sdk_sees_the_old_variant_after_the_guard_rolled_a_canary_back(
    http: httpx.Client, application: Application
) -> None:
    def answer(_path: str) -> tuple[float, int]:
        variant = application.variant(application.next_user())
        # Arm B fails only while a canary splits the users, which the measured windows do not do.
        is_canary = "SPLIT" in application.reasons[max(application.reasons)]
        return 0.0, 500 if is_canary and variant == "on" else 200

    with small_service(figures=figures_of, answer=answer) as service:
        record = run_rollout(http, service.url, application, steps=[50, 100])

    assert record["judgement"]["verdict"] == "PASS", record["judgement"]
    assert record["application"]["applied"] is False
    assert record["application"]["message"].startswith("The canary was rolled back at 50 %: The error rate was")
    assert record["flags_restored"] is True
    assert application.variants_of_all() == {"off"}
    assert application.reasons[max(application.reasons)] == {"STATIC"}


def test_openfeature_sdk_reads_values_of_every_type(server: LabProcess, http: httpx.Client) -> None:
    values = {"boolean": True, "string": "blue", "number": 2.5, "object": {"control": {"max_concurrency": 8}}}
    for value_type, value in values.items():
        content = document(value_type=value_type, variants={"v": value}, default_variant="v")
        assert http.post("/flags", json={"key": f"typed.{value_type}", "content": content}).status_code == 201

    with openfeature_client(server.url) as client:
        assert client.get_boolean_value("typed.boolean", False) is True
        assert client.get_string_value("typed.string", "red") == "blue"
        assert client.get_float_value("typed.number", 1.0) == 2.5
        assert client.get_object_value("typed.object", {}) == values["object"]


def test_openfeature_sdk_returns_the_default_with_the_reason_if_a_flag_has_no_value(
    server: LabProcess, http: httpx.Client
) -> None:
    http.post("/flags", json={"key": "split", "content": document(rules=[rule("half", on=5_000, off=5_000)])})

    with openfeature_client(server.url) as client:
        unknown = client.get_boolean_details("no-such-flag", True)
        without_key = client.get_boolean_details("split", True)
        wrong_type = client.get_string_details("split", "x", EvaluationContext(targeting_key="user"))

    assert (unknown.value, unknown.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)
    assert (without_key.value, without_key.error_code) == (True, ErrorCode.TARGETING_KEY_MISSING)
    assert (wrong_type.value, wrong_type.error_code) == ("x", ErrorCode.TYPE_MISMATCH)
