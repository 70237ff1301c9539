"""Versioned flags over HTTP: versions, preconditions, and invalid input, which is not stored."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.access.models import Scope
from relab.api.flags import FLAG_EXAMPLE
from relab.bootstrap import Services
from relab.http.body import MAX_SMALL_BODY_BYTES
from relab.server import create_app
from support.api.client import assert_problem, fields_of, loopback_client
from support.flags.contents import Document, document, rule

_numbers = itertools.count()


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return f"api-{next(_numbers)}"


def make(api: TestClient, key: str, **fields: Any) -> Document:
    response = api.post("/flags", json={"key": key, "content": document(**fields)})
    assert response.status_code == 201, response.text
    made: Document = response.json()
    return made


def listed(api: TestClient) -> list[Any]:
    items: list[Any] = api.get("/flags", params={"limit": 500, "archived": True}).json()["items"]
    return items


def every_flag(api: TestClient) -> list[Any]:
    items = listed(api)
    return [items, [api.get(f"/flags/{item['key']}/versions").json() for item in items]]


def test_flag_is_created_read_and_changed(api: TestClient, key: str) -> None:
    made = api.post("/flags", json={"key": key, "content": document(), "note": "first"})
    path = f"/flags/{key}"
    changed = api.put(
        path, json={"content": document(default_variant="on"), "note": "on"}, headers={"If-Match": made.headers["etag"]}
    )

    assert made.status_code == 201
    assert changed.status_code == 200
    assert made.headers["location"] == path
    assert made.headers["etag"] == '"1"'
    assert changed.headers["etag"] == '"2"'
    assert api.get(path).headers["etag"] == '"2"'
    assert made.json()["author"] == "loopback"
    assert api.get(path).json() == changed.json()
    assert api.get(f"{path}/versions/1").json() == made.json()
    assert [item["note"] for item in api.get(f"{path}/versions").json()["items"]] == ["on", "first"]
    assert api.get(f"{path}/diff").json()["differences"] == [
        {"path": "/default_variant", "change": "changed", "before": "off", "after": "on"}
    ]


def test_flag_that_was_read_can_be_sent_back(api: TestClient, key: str) -> None:
    made = make(api, key, rules=[rule("r", ("plan", "in", ["a", 1, True]), on=2_500, off=7_500)])

    sent = api.put(f"/flags/{key}", json={"content": made["content"]}, headers={"If-Match": '"1"'})

    assert sent.status_code == 200
    assert sent.json()["version"] == 2
    assert sent.json()["digest"] == made["digest"]


@pytest.mark.parametrize("route", ["put", "rollback", "archive"])
def test_a_change_needs_the_version_that_it_is_made_for(api: TestClient, key: str, route: str) -> None:
    make(api, key)
    before = every_flag(api)

    def change(headers: dict[str, str]) -> Any:
        if route == "put":
            return api.put(f"/flags/{key}", json={"content": document(default_variant="on")}, headers=headers)
        return api.post(f"/flags/{key}/{route}", json={"version": 1} if route == "rollback" else {}, headers=headers)

    assert "If-Match" in assert_problem(change({}), 428, "precondition_required")["detail"]
    for stale in ('"2"', '"0"', '"01"', 'W/"1"', '"x"', '""', '"2", "3"', '"99999999999"'):
        problem = assert_problem(change({"If-Match": stale}), 412, "stale_flag_version")
        assert "at version 1" in problem["detail"]
    for wrong in ("1", "", '"1', '"1" "2"', "*, *", '"\t"', "\xe9"):
        problem = assert_problem(change({"If-Match": wrong.encode("latin-1")}), 422, "invalid_input")  # type: ignore[dict-item]
        assert fields_of(problem) == ["header.If-Match"]
    assert every_flag(api) == before
    assert change({"If-Match": '"7" , "1"'}).json()["version"] == 2


def test_star_matches_any_version(api: TestClient, key: str) -> None:
    make(api, key)

    changed = api.put(f"/flags/{key}", json={"content": document()}, headers={"If-Match": "*"})
    absent = api.put("/flags/absent", json={"content": document()}, headers={"If-Match": "*"})

    assert changed.json()["version"] == 2
    assert_problem(absent, 404, "flag_not_found")


def test_an_archived_flag_keeps_its_history_and_comes_back(api: TestClient, key: str) -> None:
    made = make(api, key)
    path = f"/flags/{key}"

    archived = api.post(f"{path}/archive", json={"note": "over"}, headers={"If-Match": '"1"'})
    again = api.post(f"{path}/archive", json={}, headers={"If-Match": "*"})
    update = api.put(path, json={"content": document()}, headers={"If-Match": "*"})
    second = api.post("/flags", json={"key": key, "content": document()})
    listed = [
        api.get("/flags", params={"archived": archived, "limit": 500}).json()["items"] for archived in (False, True)
    ]
    back = api.post(f"{path}/rollback", json={"version": 1}, headers={"If-Match": '"2"'})

    assert archived.json()["version"] == 2
    assert archived.json()["action"] == "archived"
    assert_problem(again, 409, "flag_archived")
    assert_problem(update, 409, "flag_archived")
    assert_problem(second, 409, "flag_exists")
    assert [key in {item["key"] for item in items} for items in listed] == [False, True]
    assert back.json()["version"] == 3
    assert back.json()["restored_version"] == 1
    assert back.json()["content"] == api.get(f"{path}/versions/1").json()["content"]
    assert back.json()["digest"] == made["digest"]


def test_unknown_flag_is_404(api: TestClient, key: str) -> None:
    make(api, key)

    for path in ("/flags/none", "/flags/none/versions", "/flags/none/versions/1", "/flags/none/diff"):
        assert_problem(api.get(path), 404, "flag_not_found")
    for path in (f"/flags/{key}/versions/2", f"/flags/{key}/diff", f"/flags/{key}/diff?from=1&to=9"):
        assert_problem(api.get(path), 404, "flag_version_not_found")
    absent = api.post(f"/flags/{key}/rollback", json={"version": 2}, headers={"If-Match": "*"})
    assert_problem(absent, 404, "flag_version_not_found")


RAW = json.dumps({"key": "bad", "content": document()}).encode()


BAD_BODIES: list[tuple[bytes, int, str]] = [
    (b"", 422, "malformed_body"),
    (b"{", 422, "malformed_body"),
    (RAW.replace(b'"off"', b'"\xff"'), 422, "malformed_body"),
    (RAW[:-1] + b',"key":"other"}', 422, "malformed_body"),
    (RAW.replace(b"true", b"NaN"), 422, "malformed_body"),
    (RAW.replace(b'"bad"', b'"b\\u0000d"'), 422, "malformed_body"),
    (RAW.replace(b'"bad"', b'"b\\ud800d"'), 422, "malformed_body"),
    (b"[" * 100_000, 422, "malformed_body"),
    (b" " * (MAX_SMALL_BODY_BYTES + 1), 413, "too_large"),
    (b"[]", 422, "invalid_flag"),
    (b"null", 422, "invalid_flag"),
    (b'{"key":"bad"}', 422, "invalid_flag"),
    (RAW.replace(b'"bad"', b'"b/d"'), 422, "invalid_flag"),
    (RAW.replace(b'"bad"', b"3"), 422, "invalid_flag"),
    (RAW[:-1] + b',"author":"me"}', 422, "invalid_flag"),
    (RAW[:-1] + b',"note":' + json.dumps("x" * 1_001).encode() + b"}", 422, "invalid_flag"),
    (RAW.replace(b'"value_type"', b'"description":"' + b"x" * 2_001 + b'","value_type"'), 422, "invalid_flag"),
    (RAW.replace(b'"boolean"', b'"number"'), 422, "invalid_flag"),
]


def test_bad_bodies_are_refused_and_nothing_is_stored(api: TestClient, key: str) -> None:
    make(api, key)
    before = every_flag(api)

    for raw, status, code in BAD_BODIES:
        response = api.post("/flags", content=raw, headers={"content-type": "application/json"})

        problem = assert_problem(response, status, code)
        assert code != "invalid_flag" or problem["errors"], raw[:200]
        assert listed(api) == before[0], raw[:200]
    assert every_flag(api) == before


def test_problem_names_the_field_of_each_mistake(api: TestClient, key: str) -> None:
    wrong = document(default_variant="none", variants={"on": 1, "off": False}, rules=[rule(variant="gone")])

    problem = assert_problem(api.post("/flags", json={"key": key, "content": wrong}), 422, "invalid_flag")

    assert fields_of(problem) == ["content.variants.on", "content.default_variant", "content.rules.0.serve"]


def test_a_large_content_is_refused(api: TestClient, key: str) -> None:
    large = document(value_type="string", variants={"off": "x" * 70_000})

    problem = assert_problem(api.post("/flags", json={"key": key, "content": large}), 422, "invalid_flag")
    assert "65,536" in problem["detail"]
    assert_problem(api.get(f"/flags/{key}"), 404)


@pytest.mark.parametrize("headers", [{"content-type": "text/plain"}, {"content-encoding": "gzip"}])
def test_other_media_types_and_compressed_bodies_are_rejected(api: TestClient, headers: dict[str, str]) -> None:
    response = api.post("/flags", content=RAW, headers={"content-type": "application/json", **headers})

    assert_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("path", ["a%20b", "%00", "-x", "x" * 201, "a%0A"])
def test_invalid_key_is_rejected(api: TestClient, path: str) -> None:
    assert_problem(api.get(f"/flags/{path}"), 422, "invalid_input")


def test_lists_have_pages(api: TestClient) -> None:
    for name in ("zpage-a", "zpage-b", "zpage-c"):
        make(api, name)

    first = api.get("/flags", params={"after": "zpage", "limit": 2}).json()
    rest = api.get("/flags", params={"after": first["next_after"], "limit": 2}).json()

    assert [item["key"] for item in first["items"]] == ["zpage-a", "zpage-b"]
    assert [item["key"] for item in rest["items"]] == ["zpage-c"]
    assert rest["next_after"] is None


def test_example_is_accepted_and_its_author_is_the_name_of_the_token(services: Services) -> None:
    token = services.access.create_token("ann's laptop", [Scope.OPERATE]).token
    with loopback_client(create_app(services)) as client:
        made = client.post("/flags", json=FLAG_EXAMPLE, headers={"authorization": f"Bearer {token}"})

    assert made.status_code == 201
    assert made.json()["author"] == "ann's laptop"
