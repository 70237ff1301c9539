"""Flags over OpenFeature's protocol (OFREP 0.3.0): fields, errors and caching."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.access.models import Scope
from relab.bootstrap import Services
from relab.server import create_app
from support.api.client import assert_problem, loopback_client
from support.flags.contents import document, rule

BULK = "/ofrep/v1/evaluate/flags"
_numbers = itertools.count()


@pytest.fixture
def key(api: TestClient) -> str:
    """The key of a new flag with a rule, a split and a default."""
    key = f"ofrep-{next(_numbers)}"
    rules = [
        rule("beta", ("plan", "eq", "beta"), variant="on"),
        rule("half", ("region", "starts_with", "eu"), on=5_000, off=5_000),
    ]
    assert api.post("/flags", json={"key": key, "content": document(rules=rules)}).status_code == 201
    return key


def evaluated(api: TestClient, key: str, context: Any) -> Any:
    return api.post(f"{BULK}/{key}", json={"context": context})


def of_bulk(response: Any, key: str) -> Any:
    return next(item for item in response.json()["flags"] if item["key"] == key)


@pytest.mark.parametrize(
    ("context", "variant", "reason"),
    [
        ({"plan": "beta"}, "on", "TARGETING_MATCH"),
        ({"plan": "other", "targetingKey": "x"}, "off", "DEFAULT"),
        ({}, "off", "DEFAULT"),
        # The unit test of `bucket` covers the buckets; this test covers both sides of a split.
        ({"region": "eu-1", "targetingKey": "user"}, None, "SPLIT"),
    ],
)
def test_a_flag_has_a_value_for_a_context(
    api: TestClient, key: str, context: Any, variant: str | None, reason: str
) -> None:
    response = evaluated(api, key, context)

    assert response.status_code == 200
    answer = response.json()
    variant = variant or answer["variant"]
    assert answer == {
        "key": key,
        "value": variant == "on",
        "variant": variant,
        "reason": reason,
        "metadata": {"version": 1},
    }
    assert of_bulk(api.post(BULK, json={"context": context}), key) == answer


@pytest.mark.parametrize(
    ("value_type", "value"),
    [("string", "blue"), ("number", 3), ("number", 2.5), ("object", {"a": [1, None]}), ("boolean", False)],
)
def test_values_of_every_type_are_returned_unchanged(api: TestClient, value_type: str, value: Any) -> None:
    key = f"typed-{next(_numbers)}"
    made = document(value_type=value_type, variants={"v": value}, default_variant="v")
    api.post("/flags", json={"key": key, "content": made})

    answer = evaluated(api, key, {}).json()

    assert answer["value"] == value
    assert type(answer["value"]) is type(value)
    assert answer["reason"] == "STATIC"


def test_a_disabled_flag_gives_its_default(api: TestClient, key: str) -> None:
    made = document(is_enabled=False, rules=[rule(variant="on")])
    api.put(f"/flags/{key}", json={"content": made}, headers={"If-Match": "*"})

    answer = evaluated(api, key, {"plan": "beta"}).json()

    assert answer["value"] is False
    assert answer["reason"] == "DISABLED"
    assert answer["metadata"] == {"version": 2}


def test_unknown_or_archived_flag_is_not_found(api: TestClient, key: str) -> None:
    api.post(f"/flags/{key}/archive", json={}, headers={"If-Match": "*"})

    for absent in (key, "none", "a b", "%2e", "x" * 5_000, "%00"):
        response = evaluated(api, absent, {})
        assert response.status_code == 404, absent
        assert response.headers["content-type"] == "application/json"
        assert set(response.json()) == {"key", "errorCode", "errorDetails"}
        assert response.json()["errorCode"] == "FLAG_NOT_FOUND"
    assert key not in {item["key"] for item in api.post(BULK, json={"context": {}}).json()["flags"]}


def test_split_without_a_targeting_key_is_an_error_of_that_flag_alone(api: TestClient, key: str) -> None:
    context = {"region": "eu"}
    single, bulk = evaluated(api, key, context), api.post(BULK, json={"context": context})

    assert single.status_code == 400
    assert single.json()["errorCode"] == "TARGETING_KEY_MISSING"
    assert set(single.json()) == {"key", "errorCode", "errorDetails"}
    assert bulk.status_code == 200
    assert of_bulk(bulk, key) == single.json()


@pytest.mark.parametrize("context", [[], "x", 3, None, {"targetingKey": 3}, {"targetingKey": None}])
def test_invalid_context_is_rejected(api: TestClient, key: str, context: Any) -> None:
    single, bulk = evaluated(api, key, context), api.post(BULK, json={"context": context})

    assert single.status_code == 400
    assert bulk.status_code == 400
    assert single.json()["key"] == key
    assert single.json()["errorCode"] == "INVALID_CONTEXT"
    assert bulk.json()["errorCode"] == "INVALID_CONTEXT"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b'{"context": NaN}', b'{"context": {"a": "\\u0000"}}', b"\xff"]
)
def test_a_body_that_cannot_be_read_is_a_parse_error(api: TestClient, key: str, raw: bytes) -> None:
    for path in (BULK, f"{BULK}/{key}"):
        response = api.post(path, content=raw, headers={"content-type": "application/json"})

        assert response.status_code == 400
        assert response.json()["errorCode"] == "PARSE_ERROR"
        assert response.json()["errorDetails"]
        assert response.json().get("key") == (key if path != BULK else None)


def test_a_body_of_another_type_is_a_parse_error(api: TestClient, key: str) -> None:
    response = api.post(f"{BULK}/{key}", content=b"{}", headers={"content-type": "text/plain"})

    assert response.status_code == 400
    assert response.json()["errorCode"] == "PARSE_ERROR"


def test_a_request_without_a_context_has_an_empty_one(api: TestClient, key: str) -> None:
    assert api.post(f"{BULK}/{key}", json={}).json() == evaluated(api, key, {}).json()


def test_unchanged_response_is_304_for_a_known_etag(api: TestClient, key: str) -> None:
    context = {"context": {"targetingKey": "x", "plan": "beta"}}
    tag = api.post(BULK, json=context).headers["etag"]

    for known in (tag, f"W/{tag}", f'"other", {tag}', tag.strip('"'), "*"):
        same = api.post(BULK, json=context, headers={"If-None-Match": known})
        assert same.status_code == 304
        assert same.content == b""
        assert same.headers["etag"] == tag
    assert api.post(BULK, json=context, headers={"If-None-Match": '"other"'}).status_code == 200


def test_known_etag_does_not_match_another_context_or_version(api: TestClient, key: str) -> None:
    context = {"context": {"targetingKey": "x", "plan": "beta"}}
    known = {"If-None-Match": api.post(BULK, json=context).headers["etag"]}

    other = api.post(BULK, json={"context": {"targetingKey": "x", "plan": "other"}}, headers=known)
    api.put(f"/flags/{key}", json={"content": document()}, headers={"If-Match": "*"})
    changed = api.post(BULK, json=context, headers=known)

    assert of_bulk(other, key)["value"] is False
    assert of_bulk(changed, key)["metadata"] == {"version": 2}


def test_rollback_restores_everyones_values(api: TestClient, key: str) -> None:
    contexts = [{"targetingKey": f"p{number}", "region": "eu"} for number in range(30)]
    before = [evaluated(api, key, context).json()["variant"] for context in contexts]
    api.put(f"/flags/{key}", json={"content": document(default_variant="on")}, headers={"If-Match": '"1"'})
    api.post(f"/flags/{key}/rollback", json={"version": 1}, headers={"If-Match": '"2"'})

    assert [evaluated(api, key, context).json()["variant"] for context in contexts] == before
    assert set(before) == {"on", "off"}


def test_callers_without_a_token_are_rejected(services: Services) -> None:
    reading = services.access.create_token("app", [Scope.READ]).token
    ingesting = services.access.create_token("ci", [Scope.INGEST]).token
    with loopback_client(create_app(services)) as client:
        for path in (BULK, f"{BULK}/none"):
            assert_problem(client.post(path, content=b"{"), 401, "missing_token")
            refused = client.post(path, json={}, headers={"authorization": f"Bearer {ingesting}"})
            assert_problem(refused, 403, "missing_scope")
            allowed = client.post(path, json={}, headers={"authorization": f"Bearer {reading}"})
            assert allowed.status_code == (200 if path == BULK else 404)


def test_targeting_key_that_is_no_text_is_rejected_without_any_flag(api: TestClient) -> None:
    answer = api.post(BULK, json={"context": {"targetingKey": 3}})

    assert answer.status_code == 400
    assert answer.json()["errorCode"] == "INVALID_CONTEXT"
