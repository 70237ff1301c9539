"""The tools of the demo, over real loopback sockets."""

from __future__ import annotations

import threading

import httpx
import pytest

from demo.lab_server import poll
from demo.shop import ARTICLES, STANDARD_KEY, TRIAL_KEY, Answer, Request, Shop
from demo.tool_server import RUN_HEADER, ToolServer


def client_of(stage, api_key=STANDARD_KEY, run="run-1"):
    headers = {"Authorization": f"Bearer {api_key}", RUN_HEADER: run}
    return httpx.Client(base_url=stage.server.url, headers=headers, timeout=10, trust_env=False, verify=False)


def test_an_unknown_key_is_unauthorized(stage):
    with client_of(stage, api_key="key-of-nobody") as client:
        assert client.get("/help", params={"question": "refund"}).status_code == 401


def test_an_unknown_route_is_not_found(stage):
    with client_of(stage) as client:
        assert client.get("/nothing").status_code == 404


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff"])
def test_body_that_is_not_a_json_object_is_rejected(stage, body):
    with client_of(stage) as client:
        assert client.post("/orders/lookup", content=body).status_code == 400


def test_a_missing_field_is_named(stage):
    with client_of(stage) as client:
        response = client.post("/invoices", json={"order_number": "5003"})
        assert response.status_code == 400
        assert response.json()["fields"] == ["customer_id"]
        assert client.post("/invoices", json={"order_number": "5003", "customer_id": "C-1003"}).status_code == 201


def test_an_order_is_shown_only_to_its_customer(stage):
    with client_of(stage) as client:
        own = client.post("/orders/lookup", json={"order_number": "5003", "customer_id": "C-1003"})
        other = client.post("/orders/lookup", json={"order_number": "5003", "customer_id": "C-1004"})
    assert own.status_code == 200
    assert other.status_code == 404
    assert own.json()["message"] == "Order 5003: delivered."


def test_the_quota_is_per_key_and_slides(stage):
    def track(client, count):
        return [client.get("/parcels", params={"parcel": "P-1"}) for _ in range(count)]

    with client_of(stage, STANDARD_KEY) as standard, client_of(stage, TRIAL_KEY) as trial:
        assert [response.status_code for response in track(standard, 4)] == [200, 200, 200, 429]
        refused = track(trial, 4)[-1]
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "60"
        stage.clock.wait(1)
        assert track(standard, 1)[0].status_code == 200
        still_refused = track(trial, 1)[0]
        assert still_refused.status_code == 429
        assert still_refused.headers["Retry-After"] == "59"
        stage.clock.wait(59)
        assert track(trial, 1)[0].status_code == 200


def test_a_refund_needs_a_scope(stage):
    with client_of(stage) as client:
        response = client.post("/refunds", json={"order_number": "5003"})
    assert response.status_code == 403
    assert "refunds:write" in response.json()["message"]


def test_a_search_finds_by_words_and_may_find_nothing(stage):
    with client_of(stage) as client:
        found = client.get("/help", params={"question": "how long does a REFUND take, please?"}).json()
        nothing = client.get("/help", params={"question": "Can I descale my espresso machine?"}).json()
    assert [hit["title"] for hit in found["hits"]] == ["How long does a refund take?"]
    assert nothing == {"hits": [], "total": 0}


def test_the_stock_system_never_answers_and_closing_ends_its_requests():
    outcome = []

    def ask(url):
        headers = {"Authorization": f"Bearer {STANDARD_KEY}", RUN_HEADER: "run-1"}
        try:
            outcome.append(
                httpx.get(f"{url}/stock?sku=MUG-BLUE", headers=headers, timeout=30, trust_env=False, verify=False)
            )
        except httpx.TransportError as error:
            outcome.append(error)

    threads_before = set(threading.enumerate())
    with ToolServer() as server:
        asker = threading.Thread(target=ask, args=(server.url,))
        asker.start()
        assert poll(lambda: bool(server.journal.of("run-1")), within_s=30)
        assert server.journal.outline("run-1") == ["GET /stock → no answer"]
        assert outcome == []
    asker.join(timeout=30)
    assert [type(error) for error in outcome] == [httpx.RemoteProtocolError]
    assert set(threading.enumerate()) <= threads_before


def test_journal_has_the_responses_to_each_run(stage):
    with client_of(stage, run="run-a") as client:
        client.post("/labels", json={"order_number": "1"})
        client.post("/labels", json={"order_number": "1"})
        client.get("/parcels", params={"parcel": "P-1"})
        client.get("/parcels", params={"parcel": "P-2"})
    with client_of(stage, run="run-b") as client:
        client.get("/help", params={"question": "descaling"})
    assert stage.server.journal.outline("run-a") == [
        "POST /labels → 200, 2 times the same",
        "GET /parcels → 200, 2 times",
    ]
    assert stage.server.journal.outline("run-b") == ['GET /help → 200 {"hits": [], "total": 0}']
    assert stage.server.journal.outline("run-c") == []


def test_every_article_is_found_by_its_own_title():
    shop = Shop()
    for title, text in ARTICLES:
        answer = shop.answer("GET", "/help", Request({"question": title}, STANDARD_KEY))
        assert isinstance(answer, Answer)
        assert {"title": title, "text": text} in answer.body["hits"]
