"""The target's responses, health and logs while a real dependency or worker is broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest
import redis as redis_client

from relab.testbed.target.diagnostics.database import expected_indexes
from relab.testbed.target.seed import order_number
from rig.servers import PostgresServer, RedisServer
from rig.waiting import wait_until
from support.testbed.target import Target, make_shop_database, settings_document, target_folder

pytestmark = pytest.mark.full

DATABASE = "shop_outages"


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PostgresServer, RedisServer]]:
    """A PostgreSQL and a Redis of these tests alone, which stop them."""
    postgres, redis = PostgresServer.create(), RedisServer.create()
    make_shop_database(postgres, DATABASE)
    yield postgres, redis
    redis.destroy()
    postgres.destroy()


@pytest.fixture
def target(servers: tuple[PostgresServer, RedisServer]) -> Iterator[Target]:
    postgres, redis = servers
    with target_folder() as root:
        settings = settings_document(root, postgres=postgres, redis=redis, database=DATABASE)
        with Target(root, {**settings, "metrics_window_s": 5}) as started:
            yield started


def is_status(target: Target, status: str, reason: str = "") -> bool:
    health = target.get("/api/v1/health")
    return bool(health["health_status"] == status and reason in " ".join(health["reasons"]))


def test_without_the_cache_pages_come_from_the_database(
    target: Target, servers: tuple[PostgresServer, RedisServer]
) -> None:
    servers[1].stop()
    try:
        assert {target.fresh("GET", f"/api/v1/products/{key}").status_code for key in range(1, 9)} == {200}
        assert target.order(product_id=3).status_code == 201
        wait_until(lambda: is_status(target, "degraded", "cache does not answer"), what="the cache being missed")
        wait_until(lambda: target.get("/api/v1/metrics")["cache"]["errors"] > 0, what="errors being counted")
        assert target.get("/api/v1/diagnostics/cache")["reachable"] is False
        assert {line["fields"]["operation"] for line in target.events("cache_error")} == {"read", "write"}
        assert target.get("/api/v1/metrics")["error_rate"] == 0
    finally:
        servers[1].start()
    wait_until(lambda: is_status(target, "healthy"), what="the target being healthy again")


def test_read_only_cache_is_distinguished_from_a_missing_one(
    target: Target, servers: tuple[PostgresServer, RedisServer]
) -> None:
    with redis_client.Redis(port=servers[1].port) as client:
        client.config_set("maxmemory", "1")
        client.config_set("maxmemory-policy", "noeviction")
        try:
            assert target.fresh("GET", "/api/v1/products/77").status_code == 200
            wait_until(lambda: is_status(target, "degraded", "cache refused"), what="refused writes")
            assert target.get("/api/v1/diagnostics/cache")["info"]["maxmemory"] == 1
            assert "OutOfMemory" in target.events("cache_error")[-1]["message"]
        finally:
            client.config_set("maxmemory", "0")


def test_without_the_database_only_requests_that_need_it_fail(
    target: Target, servers: tuple[PostgresServer, RedisServer]
) -> None:
    cached = target.get("/api/v1/products/21")
    servers[0].stop("immediate")
    try:
        order = target.order()
        assert order.status_code == 503
        assert order.headers["retry-after"] == "1"
        assert target.get("/api/v1/products/21") == cached
        assert target.fresh("GET", "/api/v1/search", params={"q": "lamp"}).status_code == 200
        wait_until(lambda: is_status(target, "critical", "database does not answer"), what="the database being missed")
        told = target.events("db_error")[-1]
        assert told["level"] == "error"
        assert told["route"] == "place_order"
        assert target.get("/api/v1/diagnostics/database")["reachable"] is False
        wait_until(lambda: target.get("/api/v1/metrics")["errors"] > 0, what="errors being counted")
    finally:
        servers[0].start()
    wait_until(lambda: target.order().status_code == 201, what="orders being taken again")
    wait_until(lambda: is_status(target, "healthy"), what="the target being healthy again")


def test_leaked_connections_exhaust_the_pool_until_the_workers_restart(target: Target) -> None:
    for worker in (1, 2):
        assert target.defect(worker, op="leak_connections", count=6)["connections"] == 6

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: target.order(), range(8)))

    assert {answer.status_code for answer in answers} == {503}

    def exhausted() -> bool:
        # Each worker learns of the other's connections with a delay.
        pool = target.get("/api/v1/pool/status")
        return (pool["pool_utilization"], pool["used"], pool["max"]) == ("exhausted", 12, 12)

    wait_until(exhausted, what="all connections of both workers being in use")
    wait_until(lambda: target.get("/api/v1/pool/status")["pool_health"] == "critical", what="the pool being critical")
    assert "QueuePool limit of size 4 overflow 2 reached" in target.events("db_error")[-1]["message"]
    database = target.get("/api/v1/diagnostics/database")
    assert database["reachable"]
    assert database["blocked"] == []
    idle = sum(row["sessions"] for row in database["sessions"] if row["state"] == "idle")
    assert idle >= 12, "the server waits for whoever holds them"
    target.restart(1)
    target.restart(2)
    assert target.order().status_code == 201
    wait_until(lambda: is_status(target, "healthy"), what="the target being healthy again")


def test_held_lock_is_reported_with_its_holder(target: Target, servers: tuple[PostgresServer, RedisServer]) -> None:
    with psycopg.connect(servers[0].url(DATABASE), application_name="nightly") as holder:
        holder.execute("LOCK TABLE stock IN ACCESS EXCLUSIVE MODE")
        done = threading.Event()

        def order() -> None:
            # Each order times out after two seconds.
            while not done.is_set():
                target.order()

        ordering = threading.Thread(target=order)
        ordering.start()

        def blocked() -> bool:
            rows = target.get("/api/v1/diagnostics/database")["blocked"]
            return any(row["blocked_by"] == [holder.info.backend_pid] for row in rows)

        wait_until(blocked, what="the order being blocked")
        database = wait_until(
            lambda: (seen := target.get("/api/v1/diagnostics/database"))["blockers"] and seen, what="the blocker"
        )
        blocker = database["blockers"][0]
        assert blocker["application_name"] == "nightly"
        assert blocker["state"] == "idle in transaction"
        assert "stock AccessExclusiveLock" in blocker["locks"]
        assert {row["wait_event_type"] for row in database["blocked"]} == {"Lock"}
        assert target.get(f"/api/v1/orders/{order_number(3)}")["id"], "other tables are read"
        wait_until(lambda: target.events("db_error"), what="an order giving up")
        done.set()
        told = target.events("db_error")[-1]
        assert told["fields"]["sqlstate"] == "57014", "the statement's own time-out"
    ordering.join()
    assert target.order().status_code == 201


def test_missing_index_is_reported_with_its_definition(
    target: Target, servers: tuple[PostgresServer, RedisServer]
) -> None:
    with psycopg.connect(servers[0].url(DATABASE), autocommit=True) as connection:
        connection.execute("DROP INDEX orders_number_idx")
        found = target.get("/api/v1/diagnostics/database")
        assert [row["name"] for row in found["indexes"]["missing"]] == ["orders_number_idx"]
        assert found["plans"]["order by number"]["nodes"] == ["Seq Scan on orders"]
        connection.execute(found["indexes"]["missing"][0]["statement"].encode())
    assert target.get("/api/v1/diagnostics/database")["indexes"]["missing"] == []
    assert len(expected_indexes()) == 3


def test_too_many_connections_are_reported_by_sqlstate(
    target: Target, servers: tuple[PostgresServer, RedisServer]
) -> None:
    with psycopg.connect(servers[0].url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 0")
    target.settings["database"]["user"] = "few"
    target.restart(1)
    target.restart(2)

    assert target.order().status_code == 503
    assert target.events("db_error")[-1]["fields"]["sqlstate"] == "53300"
    assert target.get("/api/v1/diagnostics/database")["sqlstate"] == "53300"


def test_a_lost_search_index_falls_back_until_a_restart(target: Target) -> None:
    for worker in (1, 2):
        assert target.defect(worker, op="drop_search_index")["search_index"] == "incomplete"

    answer = target.get("/api/v1/search", q="oak lamp", top_k=5)

    assert answer["backend"] == "qdrant"
    assert len(answer["results"]) == 5
    wait_until(lambda: target.get("/api/v1/metrics")["search"]["fallbacks"] >= 1, what="the fallback being counted")
    wait_until(lambda: is_status(target, "degraded", "search index faiss is incomplete"), what="health saying so")

    def all_empty() -> bool:
        return {row["faiss"]["vectors"] for row in target.get("/api/v1/diagnostics/search")["workers"]} == {0}

    wait_until(all_empty, what="both workers telling")
    target.restart(1)
    target.restart(2)
    assert target.get("/api/v1/search", q="oak lamp", top_k=5)["backend"] == "faiss"


def test_memory_and_descriptors_leak_as_requested(target: Target) -> None:
    def process() -> dict[str, float]:
        row: dict[str, float] = target.get("/api/v1/diagnostics/processes")["workers"][0]
        return row

    before = process()
    target.defect(1, op="leak_memory", mb_per_s=200, limit_mb=60)
    assert target.defect(1, op="leak_descriptors", count=50)["descriptors"] == 50

    wait_until(lambda: not target.defect(1, op="status")["memory_growing"], what="the growth being over")
    wait_until(lambda: process()["fds"] >= before["fds"] + 50, what="the descriptors being counted")
    wait_until(lambda: process()["rss_bytes"] >= before["rss_bytes"] + 55 * 2**20, what="the memory being counted")
    target.defect(1, op="release", what="descriptors")
    wait_until(lambda: process()["fds"] < before["fds"] + 50, what="the descriptors being given back")


def test_stopped_worker_is_reported_by_the_other(target: Target) -> None:
    target.signal(1, signal.SIGSTOP)
    try:
        # The kernel may give a connection to the stopped worker, so the test retries until the other worker gets one.
        def other_says() -> bool:
            try:
                with httpx.Client(base_url=target.url, trust_env=False, verify=False) as client:
                    states = client.get("/api/v1/health", timeout=0.5).json()["workers"]
            except httpx.TimeoutException:
                return False
            return {"worker": 1, "state": "stopped"} in states

        wait_until(other_says, what="the stopped worker being told")
    finally:
        target.signal(1, signal.SIGCONT)
    target.wait_ready()


def test_order_whose_receipt_cannot_be_written_is_rejected(
    target: Target, servers: tuple[PostgresServer, RedisServer]
) -> None:
    for worker in (1, 2):
        receipts = target.root / "data" / f"receipts-{worker}.jsonl"
        receipts.unlink(missing_ok=True)
        # Every write to /dev/full fails with ENOSPC.
        receipts.symlink_to("/dev/full")
    with psycopg.connect(servers[0].url(DATABASE), autocommit=True) as connection:
        state = "SELECT (SELECT quantity FROM stock WHERE product_id = 9), count(*) FROM orders WHERE product_id = 9"
        before = connection.execute(state).fetchone()

        assert target.order(product_id=9).status_code == 503

        assert connection.execute(state).fetchone() == before
    assert target.get("/api/v1/products/9")["id"] == 9, "reads go on"
    told = target.events("storage_error")[-1]
    assert told["fields"]["error"] == "ENOSPC"
    assert "No space left on device" in told["message"]
    wait_until(lambda: is_status(target, "degraded", "could not be written to files"), what="health saying so")


@pytest.mark.parametrize("change", [{"workers": 0}, {"database": {}}, {"pool": 3}])
def test_bad_settings_end_a_worker_with_3_and_one_line(target: Target, change: dict[str, object]) -> None:
    path = target.root / "bad.json"
    path.write_text(json.dumps({**target.settings, **change}))

    done = subprocess.run(
        [sys.executable, "-m", "relab.testbed.target", "--settings", str(path), "--worker", "1"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "QDRANT_URL": ""},
    )

    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert next(iter(change)) in done.stderr
    told = target.events("bad_settings")[-1]
    assert told["level"] == "critical"
    assert told["message"] == done.stderr.strip()
