"""The cache of model answers: what it stores, for how long, and which requests share an answer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.experiments.models import TrialIds
from relab.experiments.trial.answer_cache import AnswerCache, CachedAnswer
from relab.experiments.trial.bounded_folder import BoundedFolder
from relab.experiments.trial.model_answers import CacheKeys, forwarded_headers, is_whole_answer
from support.clocks import MovableClock

ANSWER = CachedAnswer("application/json", [b'{"a": ', b"1}"])
PATH = "/v1/chat/completions"


def cache_in(folder: Path, clock: MovableClock | None = None, max_bytes: int = 1_000_000) -> AnswerCache:
    return AnswerCache(folder, ttl_s=60, max_bytes=max_bytes, clock=clock or MovableClock())


def keys(scope: str = "repeat", **fields: Any) -> CacheKeys:
    ids = TrialIds(
        "run",
        fields.pop("trial", "trial_1"),
        fields.pop("variant", "a"),
        fields.pop("task", "t"),
        fields.pop("repeat", 0),
    )
    return CacheKeys("https://x/v1", scope, ids, fields.pop("start", 1))


def key_of(made: CacheKeys, number: int = 0, body: bytes = b'{"m": 1}', **headers: str) -> str:
    digest = made.request_digest(PATH, headers, body)
    assert digest is not None
    return made.key(digest, number)


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_answer_is_returned_piece_by_piece(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    cache = cache_in(tmp_path_factory.mktemp("cache"))
    cache.put("ab12", CachedAnswer("text/event-stream", pieces))

    assert cache.get("ab12") == CachedAnswer("text/event-stream", pieces)


def test_old_answer_is_not_replayed(tmp_path: Path) -> None:
    clock = MovableClock()
    cache = cache_in(tmp_path, clock)
    cache.put("ab12", ANSWER)

    clock.move(61)

    assert cache.get("ab12") is None
    assert not list(tmp_path.glob("??/*"))


def test_named_pipe_in_the_place_of_an_answer_is_no_answer_and_is_replaced(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    (tmp_path / "ab").mkdir()
    os.mkfifo(tmp_path / "ab" / "ab12")

    assert cache.get("ab12") is None
    assert cache.put("ab12", ANSWER)
    assert cache.get("ab12") == ANSWER


@pytest.mark.parametrize("at", [0, 20, -1])
def test_damaged_answer_is_not_replayed(tmp_path: Path, at: int) -> None:
    cache = cache_in(tmp_path)
    cache.put("ab12", ANSWER)
    [path] = tmp_path.glob("??/*")
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)

    assert cache.get("ab12") is None


@pytest.mark.parametrize("created", ["null", '"now"', "[]"])
def test_answer_with_an_invalid_time_is_not_replayed(tmp_path: Path, created: str) -> None:
    cache = cache_in(tmp_path)
    cache.put("ab12", ANSWER)
    [path] = tmp_path.glob("??/*")
    head, _, body = path.read_bytes().partition(b"\n")
    path.write_bytes(json.dumps({**json.loads(head), "created_us": json.loads(created)}).encode() + b"\n" + body)

    assert cache.get("ab12") is None


def test_least_recently_used_answers_are_evicted(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, max_bytes=3_000)
    big = CachedAnswer("application/json", [b"x" * 700])
    for name in ("aa01", "bb02", "cc03", "dd04", "ee05"):
        cache.put(name, big)

    assert cache.get("ee05") == big
    assert sum(path.stat().st_size for path in tmp_path.glob("??/*")) <= 3_000
    assert not cache.put("ff06", CachedAnswer("application/json", [b"x" * 4_000]))


def test_answer_is_kept_if_the_times_of_files_are_too_coarse_to_tell_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = BoundedFolder.files

    def with_one_time(folder: BoundedFolder) -> list[tuple[int, int, str]]:
        return sorted(((7, size, path) for _, size, path in files(folder)), reverse=True)

    monkeypatch.setattr(BoundedFolder, "files", with_one_time)
    cache = cache_in(tmp_path, max_bytes=3_000)
    big = CachedAnswer("application/json", [b"x" * 700])

    for name in ("aa01", "bb02", "cc03", "dd04", "ee05"):
        cache.put(name, big)
        assert cache.get(name) == big


def test_answer_that_almost_fills_the_cache_is_kept(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, max_bytes=3_000)
    big = CachedAnswer("application/json", [b"x" * 2_650])

    cache.put("aa01", ANSWER)
    cache.put("bb02", big)

    assert cache.get("bb02") == big
    assert cache.get("aa01") is None


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    cache_in(tmp_path / "new").put("ab12", ANSWER)

    [path] = tmp_path.glob("new/??/*")
    assert path.stat().st_mode & 0o077 == 0


def test_equal_requests_share_an_answer_only_within_their_scope() -> None:
    same = key_of(keys())

    assert key_of(keys(variant="b", trial="trial_2")) == same
    for other in (keys(repeat=1), keys(task="u"), keys(start=2)):
        assert key_of(other) != same
    assert key_of(keys(), number=1) != same
    assert key_of(keys("request"), 0) == key_of(keys("request", task="u", repeat=3, start=2), 5)


def test_credentials_and_noise_are_not_in_the_key() -> None:
    noise = {
        "Authorization": "Bearer x",
        "X-Api-Key": "y",
        "User-Agent": "z",
        "X-Stainless-Retry-Count": "1",
        "Date": "d",
    }

    assert key_of(keys(), **noise) == key_of(keys())
    assert key_of(keys(), body=b'{ "m":1 }') == key_of(keys())
    assert key_of(keys(), body=b'{"m": 2}') != key_of(keys())
    assert key_of(keys(), **{"Anthropic-Version": "2023-06-01"}) != key_of(keys())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/files", b"{}"),
        (PATH, b"not json"),
        (PATH, b'{"a": NaN}'),
        (PATH, b'{"a": 1e999}'),
        (PATH, b"[]"),
        ("/v1/responses", b'{"background": true}'),
    ],
)
def test_request_whose_answer_depends_on_other_state_has_no_key(path: str, body: bytes) -> None:
    assert keys().request_digest(path, {}, body) is None


@pytest.mark.parametrize(
    ("status", "kind", "body", "whole"),
    [
        (200, "application/json", b'{"choices": []}', True),
        (200, "application/json; charset=utf-8", b'{"error": null}', True),
        (200, "application/json", b'{"error": {}}', False),
        (200, "application/json", b'{"type": "error"}', False),
        (200, "application/json", b'{"status": "in_progress"}', False),
        (200, "application/json", b'{"status": {"code": 1}}', True),
        (200, "application/json", b'{"cho', False),
        (429, "application/json", b'{"choices": []}', False),
        (200, "text/event-stream", b'data: {"a": 1}\n\ndata: [DONE]\n\n', True),
        (200, "text/event-stream", b'event: message_stop\ndata: {"type": "message_stop"}\n\n', True),
        (200, "text/event-stream", b'data: {"a": 1}\n\n', False),
        (200, "text/event-stream", b'data: {"type": []}\n\ndata: [DONE]\n\n', True),
        (200, "text/event-stream", b'data: {"error": {"message": "x"}}\n\ndata: [DONE]\n\n', False),
        (200, "text/event-stream", b'event: error\ndata: {"type": "error"}\n\ndata: [DONE]\n\n', False),
    ],
)
def test_only_complete_answers_are_stored(status: int, kind: str, body: bytes, whole: bool) -> None:
    assert is_whole_answer(status, kind, body) is whole


@pytest.mark.parametrize("connection", ["Connection", "connection"])
def test_hop_by_hop_headers_are_not_forwarded(connection: str) -> None:
    given_ = {"Host": "h", connection: "close, X-Hop", "X-Hop": "1", "Authorization": "k", "Accept-Encoding": "gzip"}

    assert forwarded_headers(given_) == {"Authorization": "k", "Accept-Encoding": "identity"}
