"""The files of the result cache: results are found again, damaged entries rejected, and old entries evicted."""

from __future__ import annotations

import json
import os
import resource
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relab.experiments.errors import StoredResultInvalidError
from relab.experiments.trial.result_cache import ResultCache
from relab.experiments.trial.stored_results import StoredHead
from rig.waiting import wait_until
from support.clocks import MovableClock

HEAD = StoredHead(
    ids={"run_id": "run_1", "trial_id": "trial_1", "variant_id": "v", "task_id": "t", "repl_idx": 0},
    agent_run_id=None,
    outcome="success",
    attempts=1,
    exit_code=0,
    started_us=1,
    ended_us=2,
    duration_ms=1.0,
    cost_usd=0.0,
    posture={"network_effective": "none", "enforcement": "none", "egress_self_test": {}, "mounts": {}},
    model_use={},
    changed=["\udcff"],
    workspace="sha256:1",
)
WRITER = """
import sys
from pathlib import Path
from typing import Any
from relab.core.clock import SystemClock
from relab.experiments.trial.result_cache import ResultCache
cache = ResultCache(Path(sys.argv[1]), max_bytes=1 << 40, ttl_us=1 << 60, clock=SystemClock())
while True:
    for number in range(4):
        cache.put(cache.key({"n": number}), Path(sys.argv[2]))
"""


def cache_in(folder: Path, clock: MovableClock | None = None, max_bytes: int = 1_000_000) -> ResultCache:
    return ResultCache(folder / "cache", max_bytes=max_bytes, ttl_us=60_000_000, clock=clock or MovableClock())


def captured(folder: Path, content: bytes = b"archive") -> Path:
    path = folder / "captured"
    path.write_bytes(json.dumps({"format": "relab_result_v1", **asdict(HEAD)}).encode() + b"\n" + content)
    return path


def content_of(cache: ResultCache, key: str) -> bytes | None:
    found = cache.find(key)
    if found is None:
        return None
    with found.file:
        assert found.head == HEAD
        return found.file.read(found.end - found.begin)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_result_is_found_as_it_was_stored(tmp_path: Path, content: bytes) -> None:
    cache = cache_in(tmp_path)
    assert cache.put(cache.key({"a": 1}), captured(tmp_path, content))

    # A second process computes the same key.
    other = cache_in(tmp_path)
    assert content_of(other, other.key({"a": 1})) == content
    assert other.find(other.key({"a": 2})) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_or_missing_byte_is_rejected(tmp_path: Path, data: st.DataObject) -> None:
    cache = cache_in(tmp_path)
    key = cache.key({"a": 1})
    cache.put(key, captured(tmp_path))
    raw = cache.path(key).read_bytes()
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = data.draw(st.sampled_from([raw[:at], raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], raw + b"x"]))
    cache.path(key).write_bytes(changed)

    with pytest.raises(StoredResultInvalidError):
        cache.find(key)
    assert not cache.path(key).exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_entry_that_is_not_a_regular_file_is_rejected_at_once_and_not_listed(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    cache = cache_in(tmp_path)
    key = cache.key({"n": 1})
    cache.path(key).parent.mkdir()
    make(cache.path(key))

    assert list(cache.entries()) == []
    with pytest.raises(StoredResultInvalidError, match="cannot be read"):
        cache.find(key)
    if make is not os.mkdir:
        assert cache.find(key) is None


def test_entry_that_cannot_be_opened_at_the_moment_is_not_deleted(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    key = cache.key({"n": 1})
    assert cache.put(key, captured(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        found = cache.find(key)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert found is None
    assert cache.path(key).exists()


def test_entry_of_another_key_or_another_cache_is_rejected(tmp_path: Path) -> None:
    one, other = cache_in(tmp_path / "a"), cache_in(tmp_path / "b")
    key, moved = one.key({"a": 1}), one.key({"a": 2})
    one.put(key, captured(tmp_path))
    for cache, target in ((one, moved), (other, key)):
        cache.path(target).parent.mkdir(parents=True, exist_ok=True)
        cache.path(target).write_bytes(one.path(key).read_bytes())

        with pytest.raises(StoredResultInvalidError, match="digest"):
            cache.find(target)


def test_old_result_is_not_used(tmp_path: Path) -> None:
    clock = MovableClock()
    cache = cache_in(tmp_path, clock)
    key = cache.key({"a": 1})
    cache.put(key, captured(tmp_path))

    clock.move(61)

    assert cache.find(key) is None


def test_least_recently_used_results_are_evicted(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, max_bytes=4_000)
    keys = [cache.key({"n": number}) for number in range(3)]
    for number, key in enumerate(keys[:2]):
        cache.put(key, captured(tmp_path, b"x" * 1_000))
        os.utime(cache.path(key), ns=(number, number))
    assert content_of(cache, keys[0]) is not None

    cache.put(keys[2], captured(tmp_path, b"x" * 1_000))

    assert [content_of(cache, key) is not None for key in keys] == [True, False, True]
    assert {entry.path.name for entry in cache.entries()} == {keys[0], keys[2]}


@pytest.mark.full
def test_kill_while_storing_leaves_no_half_entry(tmp_path: Path) -> None:
    source = captured(tmp_path, os.urandom(3_000_000))
    folder = tmp_path / "cache"
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(source)]) as writer:
            # A name that starts with a dot marks a file that is being written.
            wait_until(lambda: list(folder.glob("??/.*")), what="an entry that is being stored")
            writer.send_signal(signal.SIGKILL)
        cache = ResultCache(folder, max_bytes=1 << 40, ttl_us=1 << 60, clock=MovableClock())
        for path in folder.glob("??/*"):
            if not path.name.startswith("."):
                raw = path.read_bytes()
                assert len(raw) == source.stat().st_size + 40
        for path in folder.glob("??/.*"):
            path.unlink()
        assert all(entry.head == HEAD for entry in cache.entries())


def test_two_processes_that_create_the_key_at_once_agree_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = cache_in(tmp_path), cache_in(tmp_path)
    real = secrets.token_bytes
    made: list[str] = []

    def slow(size: int) -> bytes:
        found = real(size)
        if not made:
            # The second process creates and uses its key before the first one has stored its own.
            made.append("")
            made[0] = second.key({"n": 1})
        return found

    monkeypatch.setattr(secrets, "token_bytes", slow)

    assert first.key({"n": 1}) == made[0] == cache_in(tmp_path).key({"n": 1})


def test_processes_that_replace_a_damaged_key_at_once_agree_on_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_in(tmp_path).key({"n": 1})
    (tmp_path / "cache" / "key").write_bytes(b"cut")
    first, second = cache_in(tmp_path), cache_in(tmp_path)
    made: list[str] = []

    def after_the_second(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            if not made:
                # The first process has seen the damage. The second one replaces and uses the key before the first goes on.
                made.append("")
                made[0] = second.key({"n": 1})
            return call(*arguments, **options)

        return called

    for name in ("open", "link", "unlink", "rename", "replace"):
        monkeypatch.setattr(os, name, after_the_second(getattr(os, name)))

    assert first.key({"n": 1}) == made[0] == cache_in(tmp_path).key({"n": 1})


def test_cut_entry_is_not_listed(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    whole, cut = cache.key({"n": 1}), cache.key({"n": 2})
    for key in (whole, cut):
        cache.put(key, captured(tmp_path, b"\xff" * 100))
    with cache.path(cut).open("r+b") as file:
        file.truncate(cache.path(cut).stat().st_size - 50)

    assert [entry.to_json()["path"] for entry in cache.entries()] == [str(cache.path(whole))]
