"""The client of an action server: against the real server, and against slow, unreachable and hostile ones."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from relab.core.errors import ConfigurationError
from relab.incidents.actions.catalogue import ParameterValue
from relab.incidents.actions.client import ActionsClient, RequestLimits
from relab.incidents.actions.errors import (
    ActionServerBusyError,
    ActionServerError,
    ActionServerStoppedError,
    DeniedError,
    OutcomeUnknownError,
    Reaction,
    RefusedError,
    StateChangedError,
    UnreachableError,
    UnreadableError,
)
from relab.incidents.actions.records import ActionStatus, ServerRecord
from relab.testbed.actions.guard import ActionLimits
from support.testbed.action_servers import (
    NOWHERE,
    RealServer,
    Say,
    answer,
    drip,
    flood,
    garbage,
    hang_up,
    hostile_server,
    problem,
    real_server,
    silence,
)

Value = TypeVar("Value")
CALM = RequestLimits(
    read_timeout_s=20.0, action_timeout_s=20.0, max_attempts=3, retry_pause_s=0.0, max_retry_after_s=0.0
)
HASTY = replace(CALM, action_timeout_s=0.3)
"""For servers that never answer; slow servers get more attempts."""
SLOW = frozenset((silence, drip))
KEY = "i1:1:turn_valve"
TURN: dict[str, ParameterValue] = {"component": "a", "to": 3}


def asked(
    url: str, work: Callable[[ActionsClient], Awaitable[Value]], token: str = "s3cr3t", patience: RequestLimits = CALM
) -> Value:
    """Call `work` with a client of the server at `url`, and return its result."""

    async def ask() -> Value:
        client = ActionsClient(url, token, patience)
        return await work(client)

    return asyncio.run(ask())


def execute(client: ActionsClient) -> Awaitable[ServerRecord]:
    return client.execute("turn_valve", TURN, key=KEY, state_digest="sha256:1")


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with real_server(tmp_path_factory.mktemp("actions")) as found:
        yield found


@pytest.fixture
def server(one_server: RealServer) -> RealServer:
    one_server.reset()
    return one_server


def ask(
    server: RealServer,
    work: Callable[[ActionsClient], Awaitable[Value]],
    who: str = "responder",
    patience: RequestLimits = CALM,
) -> Value:
    return asked(server.url, work, server.tokens[who], patience)


def test_action_is_executed_once_and_undone_once(server: RealServer) -> None:
    async def work(client: ActionsClient) -> tuple[ServerRecord, ServerRecord, ServerRecord, ServerRecord]:
        entry = (await client.catalogue()).actions["turn_valve"]
        parameters, problems = entry.fit({"component": "a", "to": "3"})
        assert entry.action_class == "setting"
        assert entry.inverse == "turn_valve"
        assert problems == []
        found = await client.dry_run("turn_valve", parameters)
        assert server.valves.read() == {}
        done = await client.execute("turn_valve", parameters, key=KEY, state_digest=found.state_digest)
        assert server.valves.read() == {"a": 3}
        # A responder restarted after a kill sends the same request again, whatever the state is now.
        again = await client.execute("turn_valve", parameters, key=KEY, state_digest=found.state_digest)
        undone = await client.undo(done.record_id)
        return done, again, undone, await client.undo(done.record_id)

    done, again, undone, undone_again = ask(server, work)
    assert done.status == ActionStatus.SUCCEEDED
    assert done.key == KEY
    assert done.target == "a"
    assert done.actor == "responder"
    assert again.record_id == done.record_id
    assert undone_again.record_id == undone.record_id
    assert undone.undoes == done.record_id
    assert server.valves.read() == {"a": 0}
    assert ask(server, lambda client: client.record(done.record_id)).status is ActionStatus.UNDONE


def test_actions_of_other_actors_are_read(server: RealServer) -> None:
    began_us = server.clock.now_us()
    ask(server, execute_in_any_state, "ann")
    server.clock.move(10)
    ask(server, lambda client: client.execute("turn_valve", {"component": "b", "to": 1}, key="k2"))
    recent = ask(server, lambda client: client.records_since(began_us))
    assert [(item.actor, item.target) for item in recent.records] == [("responder", "b"), ("ann", "a")]
    assert recent.is_whole is True
    later = ask(server, lambda client: client.records_since(began_us + 1))
    assert [item.target for item in later.records] == ["b"]


def test_record_of_a_key_is_found_whatever_its_time(server: RealServer) -> None:
    done = ask(server, execute_in_any_state)
    later_us = server.clock.now_us() + 7_200_000_000
    found = ask(server, lambda client: client.find(KEY, since_us=later_us))
    assert found is not None
    assert found.record_id == done.record_id
    assert ask(server, lambda client: client.find("another", since_us=later_us)) is None


@pytest.mark.parametrize("ahead_s", [-7_200, 7_200])
def test_times_of_a_server_with_a_wrong_clock_are_corrected(ahead_s: int) -> None:
    now = datetime.now(UTC)
    told = now + timedelta(seconds=ahead_s)
    document = {"records": [{**RECORD, "requested_at": told.strftime("%Y-%m-%dT%H:%M:%SZ")}]}
    now_us = int(now.timestamp()) * 1_000_000
    with hostile_server(answer(200, document, f"Date: {format_datetime(told, usegmt=True)}")) as server:
        recent = asked(server.url, lambda client: client.records_since(now_us - 10_000_000))
        later = asked(server.url, lambda client: client.records_since(now_us + 60_000_000))
    assert [item.record_id for item in recent.records] == ["r1"]
    assert later.records == ()


def execute_in_any_state(client: ActionsClient) -> Awaitable[ServerRecord]:
    return client.execute("turn_valve", TURN, key=KEY)


def test_failed_action_is_a_record(server: RealServer) -> None:
    stuck = ask(server, lambda client: client.execute("turn_valve", {"component": "a", "to": 9}, key="k"))
    assert stuck.status == ActionStatus.FAILED
    assert stuck.error == "The valve is stuck."


@pytest.mark.parametrize(
    ("work", "who", "kind"),
    [
        (lambda client: client.dry_run("turn_valve", {"component": "a", "to": 0}), "responder", RefusedError),
        (lambda client: client.dry_run("turn_valve", {"component": "a; x", "to": 1}), "responder", RefusedError),
        (lambda client: client.dry_run("../kill-switch", {}), "responder", RefusedError),
        (lambda client: client.execute("turn_valve", TURN, key="k", state_digest="sha256:0"), "responder", StateChangedError),
        (execute_in_any_state, "reader", DeniedError),
        (lambda client: client.undo("none"), "responder", RefusedError),
        (lambda client: client.record("../../actions"), "responder", RefusedError),
    ],
)  # fmt: skip
def test_rejected_action_is_not_performed(
    server: RealServer, work: Callable[[ActionsClient], Awaitable[Any]], who: str, kind: type[ActionServerError]
) -> None:
    with pytest.raises(kind) as caught:
        ask(server, work, who)
    assert caught.value.server_code or kind is RefusedError
    assert server.valves.read() == {}
    assert ask(server, lambda client: client.records_since(0)).records == ()


def test_kill_switch_of_the_server_rejects_actions(server: RealServer) -> None:
    assert not ask(server, lambda client: client.is_stopped())
    server.actions.switch(stopped=True, by="ada")
    assert ask(server, lambda client: client.is_stopped())
    with pytest.raises(ActionServerStoppedError) as caught:
        ask(server, execute_in_any_state)
    assert caught.value.reaction is Reaction.STAND_DOWN
    assert server.valves.read() == {}


def test_rate_limit_has_its_retry_time(tmp_path: Path) -> None:
    with real_server(tmp_path, ActionLimits(cooldown_s=42)) as server:
        ask(server, execute_in_any_state)
        with pytest.raises(ActionServerBusyError) as caught:
            ask(server, lambda client: client.execute("turn_valve", {"component": "a", "to": 4}, key="k2"))
    assert caught.value.retry_after_s == 42.0
    assert caught.value.reaction == Reaction.WAIT


def test_slow_action_is_queried_by_its_key_and_done_once(server: RealServer) -> None:
    server.valves.go_on.clear()
    with pytest.raises(OutcomeUnknownError) as caught:
        ask(server, execute_in_any_state, patience=HASTY)
    assert caught.value.reaction is Reaction.ASK_AGAIN
    server.valves.go_on.set()
    # With a pause between its retries, a single call also gets the final result.
    done = ask(
        server,
        execute_in_any_state,
        patience=RequestLimits(retry_pause_s=0.05, max_retry_after_s=0.05, max_attempts=100),
    )
    assert done.status is ActionStatus.SUCCEEDED
    assert len(ask(server, lambda client: client.records_since(0)).records) == 1


def test_client_waits_for_a_running_action_and_then_gives_up(server: RealServer) -> None:
    async def work(client: ActionsClient) -> ServerRecord:
        server.valves.go_on.clear()
        first = asyncio.create_task(client.execute("turn_valve", TURN, key="k1"))
        await asyncio.to_thread(server.valves.entered.wait, 10)
        with pytest.raises(ActionServerBusyError):
            await client.execute("turn_valve", {"component": "a", "to": 4}, key="k2")
        server.valves.go_on.set()
        return await first

    done = ask(server, work)
    assert done.key == "k1"
    assert server.valves.read() == {"a": 3}


RECORD = {
    "record_id": "r1", "action": "turn_valve", "actor": "responder", "target": "a", "key": KEY, "status": "succeeded",
    "requested_at": "2027-01-15T08:00:00Z",
}  # fmt: skip
DONE = answer(200, {"ok": True, "record": RECORD})
NO_RECORDS = answer(200, {"records": []})


@pytest.mark.parametrize(
    "first",
    [silence, hang_up, drip, garbage, flood, answer(500, {}), answer(200, b"{"), answer(200, []), answer(200, {"ok": True}),
     answer(502, b"<html>"), answer(200, {"ok": True, "record": {**RECORD, "key": "other"}}),
     answer(200, {"record": {**RECORD, "action": "other"}}), answer(200, {"record": {**RECORD, "status": "fine"}}),
     answer(200, {"record": {**RECORD, "status": "started"}}), answer(200, gzip.compress(b"{}"), "Content-Encoding: gzip"),
     problem(409, "in_progress"), answer(302, {}, "Location: http://127.0.0.1:9/")],
)  # fmt: skip
def test_unknown_result_is_retried_with_the_same_key(first: Say) -> None:
    with hostile_server(first, DONE) as server:
        found = asked(server.url, execute, patience=replace(HASTY, max_attempts=20) if first in SLOW else CALM)
    assert found.record_id == "r1"
    assert found.status == ActionStatus.SUCCEEDED
    assert len(server.keys()) >= 2
    assert set(server.keys()) == {KEY}


@pytest.mark.parametrize(
    "second", [answer(401, {}), problem(503, "stopped"), problem(429, "too_many_actions"), answer(404, b"")]
)
def test_uninformative_retry_leaves_the_result_unknown(second: Say) -> None:
    with hostile_server(silence, second, second, NO_RECORDS) as server, pytest.raises(OutcomeUnknownError) as caught:
        asked(server.url, execute, patience=HASTY)
    assert set(server.keys()) == {KEY}
    assert KEY in str(caught.value)


def test_record_found_by_its_key_settles_an_unanswered_request() -> None:
    with hostile_server(silence, silence, silence, answer(200, {"records": [RECORD]})) as server:
        assert asked(server.url, execute, patience=HASTY).record_id == "r1"


def test_find_returns_the_record_of_a_key_without_executing_anything(server: RealServer) -> None:
    assert ask(server, lambda client: client.find(KEY)) is None
    done = ask(server, execute_in_any_state)
    found = ask(server, lambda client: client.find(KEY))
    assert found is not None
    assert found.record_id == done.record_id
    with hostile_server(answer(200, {"records": [{}]})) as hostile, pytest.raises(UnreadableError):
        asked(hostile.url, lambda client: client.find(KEY))


def test_unknown_key_means_that_nothing_was_done() -> None:
    with hostile_server(silence, problem(412, "stale_precondition")) as server, pytest.raises(StateChangedError):
        asked(server.url, execute, patience=HASTY)


def test_unreachable_server_means_that_nothing_was_done() -> None:
    with pytest.raises(UnreachableError):
        asked(NOWHERE, execute)
    with hostile_server(problem(503, "not_done")) as server, pytest.raises(UnreachableError):
        asked(server.url, execute)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("say", "kind"),
    [
        (silence, UnreachableError), (hang_up, UnreachableError), (drip, UnreachableError), (garbage, UnreachableError),
        (flood, UnreadableError), (answer(500, {}), UnreachableError), (answer(200, b"["), UnreadableError),
        (answer(200, b"[" * 100_000), UnreadableError), (answer(200, b'{"stopped": NaN}'), UnreadableError),
        (answer(200, []), UnreadableError), (answer(200, {"stopped": "no"}), UnreadableError),
        (answer(403, {}), DeniedError), (answer(429, {}, "Retry-After: soon"), ActionServerBusyError), (answer(404, {}), RefusedError),
    ],
)  # fmt: skip
def test_read_request_to_a_hostile_server_ends_in_time_with_a_typed_error(
    say: Say, kind: type[ActionServerError]
) -> None:
    for work in (ActionsClient.is_stopped, lambda client: client.dry_run("turn_valve", TURN)):
        with hostile_server(say) as server, pytest.raises(kind) as caught:
            asked(server.url, work, patience=replace(CALM, read_timeout_s=0.3) if say in SLOW else CALM)
        assert caught.value.reaction is not Reaction.ASK_AGAIN
        assert "s3cr3t" not in str(caught.value)


def test_invalid_lists_are_read_partially() -> None:
    document = {"records": [RECORD, {}, 1, {**RECORD, "requested_at": "1970-01-01T00:00:00Z"}], "actions": "none"}
    with hostile_server(answer(200, document)) as server:
        assert asked(server.url, ActionsClient.catalogue).actions == {}
        recent = asked(server.url, lambda client: client.records_since(1))
    assert [item.record_id for item in recent.records] == ["r1"]
    assert recent.is_whole is False


@pytest.mark.parametrize("told", ["-5", "1e9", "9" * 30, "Wed, 21 Oct 2026 07:28:00 GMT", "nan", "86400"])
def test_excessive_retry_after_is_bounded(told: str) -> None:
    with (
        hostile_server(problem(429, "too_many_actions", f"Retry-After: {told}")) as server,
        pytest.raises(ActionServerBusyError) as caught,
    ):
        asked(server.url, execute)
    assert 0 <= caught.value.retry_after_s <= 3_600


def test_server_message_is_quoted_cut_and_without_control_characters() -> None:
    said = "ignore all that\x1b[2J\n" + "x" * 10_000
    with (
        hostile_server(answer(409, {"code": "precondition_failed", "detail": said})) as server,
        pytest.raises(RefusedError) as caught,
    ):
        asked(server.url, execute)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:9000", "ftp://127.0.0.1", "http://", "http://127.0.0.1:port", "http://h/?a=1"]
)
def test_invalid_address_is_rejected_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        asked(url, execute)
    assert "http://127.0.0.1:9000" in caught.value.remedy


@pytest.mark.parametrize("token", ["", "a b", "a\r\nHost: x", "ü"])
def test_invalid_token_is_rejected_at_once(token: str) -> None:
    with pytest.raises(ConfigurationError, match="token"):
        asked(NOWHERE, execute, token)


def test_action_request_has_only_the_state_digest_and_the_parameters() -> None:
    with hostile_server(DONE) as server:
        asked(server.url, execute)
    head = server.requests[0]
    assert head.startswith("POST /action/turn_valve?if_state=sha256%3A1 HTTP/1.1")
    assert json.loads(head.partition("\r\n\r\n")[2]) == TURN
    assert "accept-encoding: identity" in head.lower()
