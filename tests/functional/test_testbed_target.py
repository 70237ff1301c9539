"""The target's shop, flags, metrics and logs, on two real workers."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from relab.testbed.target.seed import STOCK, order_number
from rig.servers import PostgresServer, RedisServer
from rig.waiting import wait_until
from support.testbed.target import Target, make_shop_database, settings_document, target_folder

FORBIDDEN = ("chaos", "fault", "inject", "defect", "leak", "scenario", "private")


@pytest.fixture(scope="module")
def target(postgres: PostgresServer, redis_server: RedisServer) -> Iterator[Target]:
    make_shop_database(postgres, "shop_flows")
    with target_folder() as root:
        settings = settings_document(root, postgres=postgres, redis=redis_server, database="shop_flows")
        with Target(root, settings) as started:
            yield started


def test_a_product_page_is_read_from_the_cache_until_it_is_ordered(target: Target) -> None:
    first = target.get("/api/v1/products/11")
    again = target.get("/api/v1/products/11")
    placed = target.order(product_id=11, quantity=3)
    after = target.get("/api/v1/products/11")

    assert first == again
    assert placed.status_code == 201
    assert first["in_stock"] == STOCK
    assert after["in_stock"] == STOCK - 3

    def counted() -> bool:
        cache = target.get("/api/v1/metrics")["cache"]
        return bool(cache["misses"] >= 2 and cache["hits"] >= 1)

    wait_until(counted, what="one hit and two misses")


def test_metrics_cover_the_requested_window_up_to_the_retention(target: Target) -> None:
    kept = target.get("/api/v1/metrics")["window_s"]
    assert target.get("/api/v1/metrics", window_s=5)["window_s"] == min(5, kept)
    assert target.get("/api/v1/metrics", window_s=300)["window_s"] == kept
    assert target.get("/api/v1/products/12")["in_stock"] > 0

    def is_known() -> bool:
        # Both workers must count the request, and each learns of the other's requests with a delay.
        return all(target.fresh("GET", "/api/v1/metrics").json()["requests"] > 0 for _ in range(8))

    wait_until(is_known, what="a request in the figures")
    # Later the short window no longer contains the request, and the long one still does.
    wait_until(lambda: target.get("/api/v1/metrics", window_s=2)["requests"] == 0, what="a short window without it")
    assert is_known()


def test_order_is_stored_with_its_receipt(target: Target) -> None:
    placed = target.order(product_id=5, quantity=2, customer="customer-00001").json()

    order = target.get(f"/api/v1/orders/{placed['id']}")

    assert order["total_cents"] == placed["total_cents"] == 2 * target.get("/api/v1/products/5")["price_cents"]
    assert order["recent_orders"][0] == placed["id"]
    assert len(order["recent_orders"]) == 5
    receipts = "".join(path.read_text() for path in (target.root / "data").glob("receipts-*.jsonl"))
    assert placed["id"] in receipts
    assert target.get(f"/api/v1/orders/{order_number(7)}")["quantity"] >= 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/v1/products/999999", None, 404),
        ("GET", "/api/v1/products/0", None, 422),
        ("GET", "/api/v1/products/x", None, 422),
        ("GET", "/api/v1/orders/none", None, 404),
        ("GET", "/api/v1/search", None, 422),
        ("GET", "/api/v1/search?q=a&top_k=0", None, 422),
        ("POST", "/api/v1/orders", {"product_id": 999_999, "quantity": 1, "customer": "a"}, 404),
        ("POST", "/api/v1/orders", {"product_id": 1, "quantity": 0, "customer": "a"}, 422),
        ("POST", "/api/v1/orders", {"product_id": 1, "quantity": 1, "customer": "a\u0000"}, 422),
        ("POST", "/api/v1/orders", {"product_id": 1, "quantity": 1, "customer": "a", "price": 0}, 422),
        ("GET", "/api/v1/logs?since=nonsense", None, 422),
        ("GET", "/api/v1/metrics?window_s=0", None, 422),
        ("GET", "/api/v1/metrics?window_s=301", None, 422),
        ("GET", "/api/lab/report", None, 404),
    ],
)
def test_invalid_requests_are_rejected(target: Target, method: str, path: str, body: object, status: int) -> None:
    assert target.fresh(method, path, json=body).status_code == status


def test_order_beyond_the_stock_is_rejected(target: Target, postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url("shop_flows"), autocommit=True) as connection:
        connection.execute("UPDATE stock SET quantity = 7 WHERE product_id = 50")
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(target.order(product_id=50, quantity=2).status_code))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        left = connection.execute("SELECT quantity FROM stock WHERE product_id = 50").fetchone()
        sold = connection.execute("SELECT count(*) FROM orders WHERE product_id = 50 AND customer = 'somebody'")
        assert sorted(statuses) == [201, 201, 201, 409, 409, 409]
        assert left == (1,)
        assert sold.fetchone() == (3,)


def test_flags_route_searches_to_a_backend(target: Target) -> None:
    def backend(top_k: int) -> str:
        return str(target.get("/api/v1/search", q="oak lamp", top_k=top_k)["backend"])

    assert backend(32) == "faiss"
    assert backend(33) == "qdrant"
    small = target.get("/api/v1/search", q="oak lamp", top_k=5)["results"]
    large = target.get("/api/v1/search", q="oak lamp", top_k=50)["results"]
    assert [hit["score"] for hit in small] == pytest.approx([hit["score"] for hit in large[:5]], abs=1e-5)

    def take(document: dict[str, object]) -> None:
        changed = target.fresh("POST", "/ops/flags", json=document).json()
        wait_until(
            lambda: set(target.get("/api/flags")["applied"].values()) == {changed["version"]}, what="both workers"
        )

    take({"routing": {"topk_threshold": 3}})
    assert {backend(4) for _ in range(8)} == {"qdrant"}
    take({"routing": {"enabled": False, "manual_backend": "faiss"}})
    assert {backend(100) for _ in range(8)} == {"faiss"}
    take({"routing": {"enabled": True, "topk_threshold": 32, "manual_backend": None}})
    assert backend(10) == "faiss"


def test_flags_are_read_back_and_limit_both_workers(target: Target) -> None:
    before = target.get("/api/flags")
    wanted = {"policy": "fixed", "max_concurrency": 6, "target_p95_ms": 500.0, "max_batch_size": 4}

    changed = target.fresh("POST", "/api/flags", json={"control": wanted})

    assert changed.status_code == 200
    assert {name: target.get("/ops/flags")["control"][name] for name in wanted} == wanted

    def limits() -> list[int]:
        return [row["limit"] for row in target.get("/api/v1/metrics")["flow_control"]]

    wait_until(lambda: limits() == [3, 3], what="both workers' limits")
    back = target.fresh("POST", "/ops/flags", json={"control": before["control"]})
    assert back.json()["control"] == before["control"]
    assert back.json()["version"] == changed.json()["version"] + 1
    wait_until(lambda: limits() == [16, 16], what="both workers' limits")


def test_rejected_flags_are_named_and_change_nothing(target: Target) -> None:
    def in_force() -> dict[str, object]:
        # Without `applied`, because a worker may still have to apply an earlier change.
        return {name: value for name, value in target.get("/api/flags").items() if name != "applied"}

    before = in_force()

    refused = target.fresh("POST", "/ops/flags", json={"control": {"max_concurrency": 4, "knob": 1}})

    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == ["control.knob"]
    assert target.fresh("POST", "/ops/flags", content="{}").status_code == 415
    assert (
        target.fresh("POST", "/ops/flags", content="{", headers={"Content-Type": "application/json"}).status_code == 422
    )
    other_site = target.fresh("POST", "/ops/flags", json={}, headers={"Origin": "http://elsewhere.example"})
    assert other_site.status_code == 403
    assert in_force() == before


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/ops/flags"), ("GET", "/api/v1/logs"), ("GET", "/api/v1/products/1")]
)
def test_request_under_a_name_of_another_machine_is_rejected(target: Target, method: str, path: str) -> None:
    """A web page whose host name resolves to this machine sends the same name as Host and Origin."""
    headers = {"Host": "attacker.example", "Origin": "http://attacker.example"}
    answer = target.fresh(method, path, json={}, headers=headers)
    assert answer.status_code == 400
    assert answer.text == "Invalid host header"
    assert target.fresh("GET", path, headers={"Host": "LOCALHOST"}).status_code == 200


def test_change_of_flags_for_another_version_is_rejected(target: Target) -> None:
    before = target.get("/api/flags")
    stale, current = f'"{before["version"] + 5}"', f'"{before["version"]}"'
    document = {"control": {"max_batch_size": before["control"]["max_batch_size"]}}

    rejected = target.fresh("POST", "/ops/flags", json=document, headers={"If-Match": stale})
    assert rejected.status_code == 412
    assert rejected.json()["code"] == "stale_flags"
    assert target.get("/api/flags")["version"] == before["version"]
    assert target.fresh("POST", "/ops/flags", json=document, headers={"If-Match": "7"}).status_code == 422

    accepted = target.fresh("POST", "/ops/flags", json=document, headers={"If-Match": current})
    assert accepted.json()["version"] == before["version"] + 1
    assert target.fresh("POST", "/ops/flags", json=document, headers={"If-Match": current}).status_code == 412
    assert target.fresh("POST", "/ops/flags", json=document, headers={"If-Match": "*"}).status_code == 200


def test_stored_report_is_returned_unchanged(target: Target) -> None:
    report = {"ok": True, "message": "done", "delta_p95_pct": -12.5, "text": "ΔP95: -8.1ms (-12.5%)"}

    assert target.fresh("PUT", "/ops/lab/report", json=report).status_code == 200

    assert target.get("/api/lab/report")["text"] == report["text"]
    mini = target.get("/ops/lab/report", mini=1)
    assert mini["delta_p95_pct"] == -12.5
    assert mini["fallback_count"] is None
    assert "text" not in mini
    assert target.fresh("PUT", "/api/lab/report", json={**report, "p95": 1}).status_code == 422


def test_requests_of_disconnected_clients_are_counted_as_abandoned(target: Target) -> None:
    before = target.get("/api/v1/metrics")["abandoned"]
    address = ("127.0.0.1", target.settings["listen"]["port"])
    for _ in range(5):
        with socket.create_connection(address) as gone:
            gone.sendall(b"POST /api/v1/orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")

    def is_counted() -> bool:
        told: int = target.get("/api/v1/metrics")["abandoned"]
        return told >= before + 5

    wait_until(is_counted, what="five clients that are gone")
    waited_for = target.fresh("GET", f"/api/v1/orders/{order_number(1)}")
    assert waited_for.status_code == 200


def parsed(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def test_metrics_cover_both_workers(target: Target) -> None:
    answered = [target.fresh("GET", f"/api/v1/orders/{order_number(index)}") for index in range(30)]
    missing = [target.fresh("GET", "/api/v1/orders/none") for _ in range(10)]

    def found() -> dict[str, float] | None:
        route: dict[str, float] = target.get("/api/v1/metrics")["routes"]["order"]
        # Earlier requests may be in the window or leave it meanwhile, so the counts are lower bounds.
        counted = route["requests"] >= 40 and route["client_errors"] >= 10
        return route if counted else None

    route = wait_until(found, what="all requests being counted")
    assert route is not None
    assert {answer.status_code for answer in answered} == {200}
    assert {answer.status_code for answer in missing} == {404}
    # Each request was counted once; the window may still contain one client error of another test.
    assert 10 <= route["client_errors"] <= 11
    assert route["error_rate"] == 0
    assert 0 < route["p50_ms"] <= route["p95_ms"] <= route["p99_ms"]
    families = {f.name: f for f in parsed(target.fresh("GET", "/metrics").text)}
    workers = {
        sample.labels["worker"]
        for sample in families["http_server_request_duration_seconds"].samples
        if sample.labels["http_route"] == "order" and sample.name.endswith("_count") and sample.value > 0
    }
    assert workers == {"1", "2"}, "the kernel gave connections to both"
    states = {s.labels["db_client_connection_state"] for s in families["db_client_connection_count"].samples}
    assert states == {"idle", "used"}
    assert {s.value for s in families["db_client_connection_max"].samples} == {6.0}
    assert {"db_client_connection_timeouts", "db_client_connection_wait_time_seconds"} <= families.keys()


def test_a_reader_of_logs_misses_and_repeats_nothing(target: Target) -> None:
    cursor = target.get("/api/v1/logs", since="latest")["cursor"]
    done = threading.Event()
    versions: list[int] = []

    def write() -> None:
        for threshold in range(1, 41):
            answer = target.fresh("POST", "/ops/flags", json={"routing": {"topk_threshold": threshold}})
            versions.append(answer.json()["version"])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    read: list[tuple[int, int]] = []
    while True:
        finished = done.is_set()
        page = target.get("/api/v1/logs", since=cursor, limit=3)
        cursor = page["cursor"]
        read += [
            (line["worker"], line["fields"]["flags"]["version"])
            for line in page["logs"]
            if line["event"] == "flags_changed"
        ]
        if finished and not page["more"]:
            break
    writer.join()

    assert sorted(version for _, version in read) == versions
    assert {worker for worker, _ in read} == {1, 2}


def test_operator_output_does_not_reveal_the_testbed(target: Target) -> None:
    before = target.defect(1, op="status")
    assert before["ok"]
    paths = [
        "/api/v1/health", "/api/v1/metrics", "/api/v1/pool/status", "/api/v1/logs?limit=1000", "/metrics", "/api/lab/config",
        "/api/flags", "/openapi.json",
        *(f"/api/v1/diagnostics/{name}" for name in ("database", "cache", "host", "processes", "settings", "search")),
    ]  # fmt: skip
    for path in paths:
        text = target.fresh("GET", path).text.lower().replace("default", "")
        assert [word for word in FORBIDDEN if word in text] == [], path
    names = [path.name for folder in ("data", "logs", "stats") for path in (target.root / folder).iterdir()]
    assert not [name for name in names for word in FORBIDDEN if word in name]


@pytest.mark.parametrize(
    "op", [{"op": "explode"}, {"op": "leak_connections"}, {"op": "leak_memory", "mb_per_s": 0}, {}]
)
def test_private_socket_rejects_unknown_requests(target: Target, op: dict[str, object]) -> None:
    assert target.defect(1, **op)["ok"] is False


def test_settings_hide_secrets_and_show_unknown_without_a_supervisor(target: Target) -> None:
    text = target.fresh("GET", "/api/v1/diagnostics/settings").text

    assert "only for show" not in text
    shown = json.loads(text)
    assert shown["settings"]["database"]["password"] == "********"
    assert shown["version"] == 3
    assert shown["history"] == "unknown"
    assert target.get("/api/v1/diagnostics/processes")["components"] == "unknown"


def test_token_guards_changing_requests(
    postgres: PostgresServer, redis_server: RedisServer, target: Target, tmp_path: Path
) -> None:
    with target_folder() as root:
        settings = settings_document(root, postgres=postgres, redis=redis_server, database="shop_flows")
        with Target(root, {**settings, "token": "let me in", "workers": 1}) as guarded:
            body = {"control": {"max_concurrency": 5}}
            refused = guarded.fresh("POST", "/ops/flags", json=body)
            wrong = guarded.fresh("POST", "/ops/flags", json=body, headers={"Authorization": "Bearer let"})
            taken = guarded.fresh("POST", "/ops/flags", json=body, headers={"Authorization": "Bearer let me in"})
            assert [answer.status_code for answer in (refused, wrong, taken)] == [401, 401, 200]
            assert guarded.get("/api/flags")["control"]["max_concurrency"] == 5
            guarded.signal(1, signal.SIGTERM)
            assert guarded.processes[1].wait(15) == 0
            with pytest.raises(httpx.TransportError):
                guarded.get("/api/flags")
