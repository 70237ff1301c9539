"""Parts of a worker: settings, flags, vectors and indexes, products, files, routes, and figures of host and process."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.core.errors import InvalidInputError
from relab.testbed.target.diagnostics import cache
from relab.testbed.target.diagnostics.database import expected_indexes
from relab.testbed.target.diagnostics.host import cgroup_figures, disk_figures, host_diagnostics
from relab.testbed.target.errors import NoSuchOrderError, SearchError, StorageError
from relab.testbed.target.files import append_line
from relab.testbed.target.flag_file import FlagFile, StoredFlags
from relab.testbed.target.flow import route_of
from relab.testbed.target.indexes import EmbeddedQdrant, FaissIndex
from relab.testbed.target.process_figures import OwnProcess, state_of
from relab.testbed.target.search import Products
from relab.testbed.target.seed import catalogue, write_products
from relab.testbed.target.settings import BadSettingsError, CacheSettings, load_settings
from relab.testbed.target.shop import Shop
from relab.testbed.target.vectors import DIMENSIONS, embed
from support.clocks import MovableClock

SETTINGS: dict[str, Any] = {
    "version": 1,
    "listen": {"host": "127.0.0.1", "port": 8011},
    "database": {"host": "127.0.0.1", "port": 5432, "user": "shop", "password": "s3cret", "name": "shop"},
    "cache": {"host": "127.0.0.1", "port": 6379, "password": None},
    "search": {"products_path": "p.jsonl", "qdrant_dir": "q"},
    "data_dir": "d", "log_path": "l", "stats_dir": "s", "private_dir": "p", "flags_path": "f",
}  # fmt: skip


def test_settings_have_the_defaults_that_the_design_names(tmp_path: Path) -> None:
    path = tmp_path / "target.json"
    path.write_text(json.dumps(SETTINGS))

    settings = load_settings(path)

    assert settings.database.pool_max == 15
    assert settings.database.patience_s == 6.0
    assert settings.workers == 2
    assert settings.metrics_window_s == 30
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"version": None}, "version"),
        ({"extra": 1}, "extra"),
        ({"database": {**SETTINGS["database"], "pool_size": 0}}, "database.pool_size"),
        ({"database": {**SETTINGS["database"], "pool_size": "many"}}, "database.pool_size"),
        ({"database": {"host": "x", "password": "s3cret"}}, "database.port"),
        ({"cache": {**SETTINGS["cache"], "timeout_s": -1}}, "cache.timeout_s"),
        ({"listen": {"host": "0.0.0.0", "port": 8011}}, "token"),
        ({"search": {**SETTINGS["search"], "qdrant_url": "ftp://x"}}, "search.qdrant_url"),
    ],
)
def test_bad_settings_are_named_without_their_values(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    path = tmp_path / "target.json"
    path.write_text(json.dumps({**SETTINGS, **change}))

    with pytest.raises(BadSettingsError) as refused:
        load_settings(path)

    assert named in refused.value.message
    assert "s3cret" not in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1, "version": 2}'])
def test_invalid_or_missing_settings_file_is_rejected(tmp_path: Path, text: str) -> None:
    path = tmp_path / "target.json"
    path.write_text(text)

    with pytest.raises(BadSettingsError):
        load_settings(path)
    with pytest.raises(BadSettingsError):
        load_settings(tmp_path / "absent.json")


def test_workers_read_the_same_flags_from_their_file(tmp_path: Path) -> None:
    one, two = FlagFile(tmp_path / "flags.json"), FlagFile(tmp_path / "flags.json")
    assert not one.refresh()

    stored = one.update({"control": {"max_concurrency": 8}})

    assert two.refresh()
    assert two.current == one.current == stored
    assert not two.refresh()
    with pytest.raises(InvalidInputError):
        two.update({"control": {"max_concurrency": 0}})
    assert FlagFile(tmp_path / "flags.json").current == StoredFlags()
    assert not one.refresh()


def test_change_within_a_tick_of_the_file_clock_is_read(tmp_path: Path) -> None:
    path, clock = tmp_path / "flags.json", MovableClock(1_800_000_000_000_000)
    flags = FlagFile(path, clock=clock)
    flags.update({"control": {"max_concurrency": 11}})
    stamp = clock.us * 1_000
    os.utime(path, ns=(stamp, stamp))
    assert not flags.refresh()

    # A third change can get the inode number of the first file, which the second change has freed.
    path.write_bytes(path.read_bytes().replace(b"11", b"13"))
    os.utime(path, ns=(stamp, stamp))

    assert flags.refresh()
    assert flags.current.flags.control.max_concurrency == 13
    clock.move(60)
    assert not flags.refresh()


def test_concurrent_changes_of_flags_are_all_kept(tmp_path: Path) -> None:
    files = [FlagFile(tmp_path / "flags.json") for _ in range(4)]
    fields = ["target_p95_ms", "max_concurrency", "max_batch_size"]

    def change(which: int) -> None:
        for value in range(1, 21):
            if which < 3:
                files[which].update({"control": {fields[which]: value}})
            else:
                files[which].update({"routing": {"topk_threshold": value}})

    threads = [threading.Thread(target=change, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    last = FlagFile(tmp_path / "flags.json")
    last.refresh()
    assert last.current.version == 80
    assert [getattr(last.current.flags.control, field) for field in fields] == [20, 20, 20]
    assert last.current.flags.routing.topk_threshold == 20


def test_damaged_flag_file_is_reported_once_and_changes_nothing(tmp_path: Path) -> None:
    flags = FlagFile(tmp_path / "flags.json")
    flags.update({"control": {"max_concurrency": 8}})
    (tmp_path / "flags.json").write_text("{")

    with pytest.raises(InvalidInputError):
        flags.refresh()

    assert flags.current.flags.control.max_concurrency == 8
    assert not flags.refresh(), "it is told once"


@given(st.text(max_size=200))
def test_every_text_has_a_vector_of_length_one_or_zero(text: str) -> None:
    row = embed([text])[0]

    assert row.shape == (DIMENSIONS,)
    assert float(np.linalg.norm(row)) == pytest.approx(1, abs=1e-4) or not row.any()


def test_vectors_are_deterministic_and_closer_for_shared_words() -> None:
    lamp, same, near, far = embed(["an oak lamp", "Oak, LAMP: an", "an oak chair", "seven blue whales"])

    assert np.array_equal(lamp, same)
    assert lamp @ near > lamp @ far
    # These positions are fixed, because machines with different positions would rank differently.
    assert np.flatnonzero(embed(["lamp"])[0]).tolist() == [29, 44, 46, 48, 59]


def test_both_indexes_find_the_nearest_vectors(tmp_path: Path) -> None:
    write_products(tmp_path / "products.jsonl", products=400)
    products = Products(tmp_path / "products.jsonl")
    ids, vectors = list(products.texts), embed(products.texts.values())
    faiss, qdrant = FaissIndex(ids, vectors), EmbeddedQdrant(ids, vectors, tmp_path / "qdrant")
    try:
        queries = embed(["oak lamp", "heavy steel kettle for the garden", "stool"])
        limits = [5, 40, 400]

        ours, theirs = faiss.search(queries, limits), qdrant.search(queries, limits)

        exact = [np.sort(vectors @ query)[::-1][:limit] for query, limit in zip(queries, limits, strict=True)]
        for found in (ours, theirs):
            assert [len(hits) for hits in found] == limits
            for hits, scores in zip(found, exact, strict=True):
                assert [score for _, score in hits] == pytest.approx(scores.tolist(), abs=1e-5)
    finally:
        qdrant.close()


def test_dropped_index_is_reported_until_it_is_rebuilt() -> None:
    texts = [product.description for product in catalogue(50)]
    index = FaissIndex(range(1, 51), embed(texts))
    index.drop()

    with pytest.raises(SearchError) as failed:
        index.search(embed(["lamp"]), [3])
    assert failed.value.cause == "index holds 0 of 50 vectors"
    assert index.figures()["state"] == "incomplete"

    index.rebuild()
    assert len(index.search(embed(["lamp"]), [3])[0]) == 3
    assert index.figures()["state"] == "ready"


@pytest.mark.parametrize("text", ["", "not json\n", '{"id": 1}\n'])
def test_unreadable_products_file_is_rejected_as_bad_settings(tmp_path: Path, text: str) -> None:
    path = tmp_path / "products.jsonl"
    path.write_text(text)

    with pytest.raises(BadSettingsError):
        Products(path)
    with pytest.raises(BadSettingsError):
        Products(tmp_path / "absent")


def test_full_disk_is_reported_by_name_and_leaves_no_partial_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as full:
        append_line(Path("/dev/full"), b"x\n")
    assert full.value.cause.startswith("ENOSPC: No space left on device")
    append_line(tmp_path / "file", b"one\n")
    (tmp_path / "file").unlink()
    append_line(tmp_path / "file", b"two\n")
    assert (tmp_path / "file").read_bytes() == b"two\n"
    with pytest.raises(StorageError) as gone:
        append_line(tmp_path / "gone" / "file", b"x\n")
    assert gone.value.cause.startswith("ENOENT")


def test_the_expected_indexes_are_those_of_the_schema() -> None:
    expected = expected_indexes()

    assert set(expected) == {"orders_number_idx", "orders_customer_idx", "orders_product_idx"}
    assert expected["orders_number_idx"] == "CREATE UNIQUE INDEX orders_number_idx ON orders (number)"


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/api/v1/products/7", "product"),
        ("GET", "/api/v1/search", "search"),
        ("POST", "/api/v1/orders", "place_order"),
        ("GET", "/api/v1/orders/x", "order"),
        ("GET", "/api/v1/health", None),
        ("GET", "/api/v1/diagnostics/host", None),
        ("POST", "/ops/flags", None),
        ("GET", "/", None),
    ],
)
def test_only_routes_of_the_shop_are_limited(method: str, path: str, route: str | None) -> None:
    assert route_of(method, path) == route


def test_host_figures_come_from_the_kernel(tmp_path: Path) -> None:
    found = host_diagnostics(tmp_path)

    assert 0 <= found["cpu"]["busy_pct"] <= 100
    assert found["memory_kib"]["MemAvailable"] > 0
    assert found["disk"]["free_bytes"] > 0
    assert "error" in disk_figures(tmp_path / "absent")


def test_control_groups_of_both_versions_are_read(tmp_path: Path) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    files = {
        "cpu,cpuacct/pod/cpu.cfs_quota_us": "50000",
        "cpu,cpuacct/pod/cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 99",
        "memory/pod/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2",
        "unified/pod/memory.events": "low 0\noom 1\noom_kill 1",
        "pids.max": "max",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    proc.mkdir()
    (proc / "cgroup").write_text("4:cpu,cpuacct:/pod\n3:memory:/pod\n0::/pod\n")

    found = cgroup_figures(proc, root)

    assert found["cpu.cfs_quota_us"] == 50_000
    assert found["cpu.stat"]["nr_throttled"] == 4
    assert found["memory.oom_control"]["oom_kill"] == 2
    assert found["memory.events"]["oom"] == 1
    assert found["pids.max"] == "max"
    assert cgroup_figures(tmp_path / "nowhere", root) == {}


def test_process_reports_its_own_figures() -> None:
    figures = OwnProcess().sample()

    assert 0 < figures["fds"] < figures["fd_limit"]
    assert figures["rss_bytes"] > 1_000_000
    assert state_of(os.getpid()) in {"running", "sleeping"}
    assert state_of(2**22 - 3) == "gone"


def test_cache_that_closes_its_connection_is_reported_as_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closing:
        async def info(self, *_: str) -> None:
            raise RuntimeError("unable to perform operation; the handler is closed")

        async def aclose(self) -> None:
            raise RuntimeError("the handler is closed")

    monkeypatch.setattr(cache, "make_client", lambda _: Closing())

    found = asyncio.run(cache.cache_diagnostics(CacheSettings(host="127.0.0.1", port=6379)))

    assert found["reachable"] is False
    assert "Connection closed by server" in found["error"]


def test_order_number_with_a_null_character_does_not_exist() -> None:
    nothing: Any = None
    shop = Shop(
        database=nothing, cache=nothing, search=nothing, products=nothing, threads=nothing, receipts=Path("r"),
        recorder=nothing,
    )  # fmt: skip

    with pytest.raises(NoSuchOrderError):
        asyncio.run(shop.order("1\x00"))
