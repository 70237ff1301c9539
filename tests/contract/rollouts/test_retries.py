"""Services of flags that fail for the moment, and metric sources whose clock is wrong, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from relab.rollouts.errors import ClockSkewError, FlagsChangedError, TargetUnavailableError
from relab.rollouts.execution.flag_switch import FlagSwitch
from relab.rollouts.plans.subject import HttpFlagSubject, JsonMetric
from relab.rollouts.targets import retries as retrying
from relab.rollouts.targets.http_flag import HttpFlagTarget
from relab.rollouts.targets.metrics import JsonMetricSource
from relab.rollouts.targets.retries import RetryLog
from rig.servers import refusing_port
from support.rollouts.flag_servers import LimitServer, ProcessesServer, serving
from support.rollouts.rollout_lab import RolloutLab


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_PAUSES_S", (0.0, 0.0, 0.0, 0.0))


@pytest.fixture
def server() -> Iterator[LimitServer]:
    with serving(LimitServer()) as server:
        yield server


def target_of(server: LimitServer, retries: RetryLog | None = None, **fields: Any) -> HttpFlagTarget:
    given = {"reads": 1, "version_header": "ETag", **fields}
    subject = HttpFlagSubject(kind="http", url=server.flag_url, pointer="/limit", b=20, **given)
    return HttpFlagTarget(subject, {}, timeout_s=5.0, retries=retries)


def test_read_that_fails_for_the_moment_is_repeated(server: LimitServer) -> None:
    server.failures["GET"], retries = [500, 503, 408], RetryLog()

    assert target_of(server, retries).read().value == 10.0
    (sentence,) = retries.sentences()
    assert sentence.startswith("3 requests for flags or figures had to be repeated.")
    assert "/limit answers 500: try again." in sentence


def test_read_that_fails_five_times_is_an_error(server: LimitServer) -> None:
    server.failures["GET"] = [500] * 5

    with pytest.raises(TargetUnavailableError, match="answers 500"):
        target_of(server).read()
    assert server.failures["GET"] == []


def test_read_that_has_taken_long_is_repeated_only_once(server: LimitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_MAX_TIME_S", -1.0)
    server.failures["GET"] = [500] * 5

    with pytest.raises(TargetUnavailableError, match="answers 500"):
        target_of(server).read()
    assert server.failures["GET"] == [500] * 3


@pytest.mark.parametrize("status", [401, 404, 429])
def test_read_that_is_rejected_is_not_repeated(server: LimitServer, status: int) -> None:
    server.failures["GET"], retries = [status], RetryLog()

    with pytest.raises(TargetUnavailableError, match=f"answers {status}"):
        target_of(server, retries).read()
    assert retries.sentences() == ()


def test_server_that_stops_accepting_connections_is_tried_again() -> None:
    retries = RetryLog()
    with serving(LimitServer()) as server:
        target = target_of(server, retries)
        target.read()

    with pytest.raises(TargetUnavailableError, match="does not answer"):
        target.read()
    assert retries.sentences()[0].startswith("4 requests")


@pytest.mark.parametrize("reads", [1, 5])
def test_server_that_has_never_answered_is_not_tried_again(reads: int) -> None:
    with refusing_port() as port:
        retries = RetryLog()
        subject = HttpFlagSubject(kind="http", url=f"http://127.0.0.1:{port}/limit", reads=reads, b=20)

        with pytest.raises(TargetUnavailableError, match="does not answer"):
            HttpFlagTarget(subject, {}, timeout_s=5.0, retries=retries).read()
    assert retries.sentences() == ()


def test_change_does_not_repeat_a_read_that_was_repeated_already() -> None:
    retries = RetryLog()
    with serving(LimitServer()) as server:
        target = target_of(server, retries)
        switch = FlagSwitch(target, target.read(), within_s=5.0, retries=retries)

    with pytest.raises(TargetUnavailableError, match="does not answer"):
        switch.set(20.0)
    assert retries.sentences()[0].startswith("4 requests")


@pytest.mark.parametrize("status", [500, 429, -502], ids=["not_made", "too_many", "made_but_answer_lost"])
@pytest.mark.parametrize("version_header", ["ETag", None])
def test_change_that_fails_for_the_moment_is_made_once(
    server: LimitServer, status: int, version_header: str | None
) -> None:
    retries = RetryLog()
    target = target_of(server, retries, version_header=version_header)
    switch = FlagSwitch(target, target.read(), within_s=5.0, retries=retries)
    server.failures["PUT"] = [status]

    switch.set(20.0)

    assert server.limit == 20.0
    assert len(server.bodies) == 1
    assert switch.check().value == 20.0
    assert retries.sentences()[0].startswith("1 request for flags")


def test_change_of_another_client_after_a_failure_stays(server: LimitServer) -> None:
    target = target_of(server)
    switch = FlagSwitch(target, target.read(), within_s=5.0)
    server.failures["PUT"] = [-500]
    server.adapted = 33.0

    with pytest.raises(FlagsChangedError):
        switch.set(20.0)
    assert server.limit == 33.0


def test_same_change_of_another_client_is_noticed_before_the_first_attempt(server: LimitServer) -> None:
    target = target_of(server)
    switch = FlagSwitch(target, target.read(), within_s=5.0)
    server.limit, server.revision = 20.0, 2

    with pytest.raises(FlagsChangedError):
        switch.set(20.0)


def test_report_of_a_rollout_names_repeated_requests(lab: RolloutLab) -> None:
    with serving(ProcessesServer([10])) as processes:
        processes.failures["PUT"] = [500]
        flag = {"kind": "http", "url": processes.flag_url, "pointer": "/value", "b": 20}
        experiment = {"qps": 60, "window_sec": 0.25, "warmup_sec": 0.05, "rounds": 2, "mix": "browse"}
        record = lab.run(subject={"flags": flag}, experiment=experiment)

    assert record.flags_restored
    assert record.judgement is not None
    assert any("1 request for flags or figures had to be repeated" in each for each in record.judgement.warnings)


def source_of(server: LimitServer, query: str) -> JsonMetricSource:
    subject = JsonMetric(kind="json", url=f"{server.flag_url}{query}", pointer="/limit")
    return JsonMetricSource(subject, {}, timeout_s=5.0)


@pytest.mark.parametrize(("ahead_s", "side"), [(9_000.0, "ahead of"), (-9_000.0, "behind")])
def test_metric_of_a_source_with_another_time_is_refused(server: LimitServer, ahead_s: float, side: str) -> None:
    server.ahead_s = ahead_s

    with pytest.raises(ClockSkewError, match=rf"is \d+ s {side} this machine's clock"):
        source_of(server, "?from=$start").read("A", 0, 10_000_000)


@pytest.mark.parametrize(
    ("ahead_s", "query", "window_s", "with_age"),
    [
        (0.0, "?from=$start", 3_600, False),
        (9_000.0, "", 10, False),
        (9_000.0, "?to=$end", 100_000, False),
        (9_000.0, "?to=$end", 10, True),
    ],
    ids=["right_time", "no_times_in_the_url", "long_window", "answer_of_a_cache"],
)
def test_metric_is_read_if_the_clocks_do_not_matter(
    server: LimitServer, ahead_s: float, query: str, window_s: int, with_age: bool
) -> None:
    server.ahead_s, server.with_age = ahead_s, with_age

    assert source_of(server, query).read("A", 0, window_s * 1_000_000).metric == 10.0
