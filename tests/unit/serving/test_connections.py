"""Connection limits: which connection is evicted or rejected when a limit is reached."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from structlog.testing import capture_logs

from relab.serving.connections import REPEAT_LOG_S, Admission, Connections
from relab.serving.limits import HttpLimits

LIMITS = HttpLimits(max_connections=4, max_connections_per_client=3, max_streams=2, max_health_connections=2)


class FakeConnection:
    """A connection that is busy or idle, and closes when the registry evicts it."""

    def __init__(self, registry: Connections, client: str, admission: Admission) -> None:
        self.is_waiting = True
        self.is_open = True
        self.admission = admission
        self.client = client
        self._registry = registry
        registry.add(self, client, admission)

    def evict(self) -> None:
        assert self.is_waiting
        self.is_open = False
        self._registry.remove(self, self.client)

    def check(self, now_s: float) -> None:
        """Do nothing: no test exceeds a time limit."""


def connect(registry: Connections, client: str, *, busy: bool = False) -> FakeConnection | None:
    admission = registry.admit(client)
    if admission is None:
        return None
    made = FakeConnection(registry, client, admission)
    made.is_waiting = not busy
    return made


def test_oldest_idle_connection_of_a_client_is_evicted_at_its_limit() -> None:
    registry = Connections(LIMITS, capacity=100)
    other = connect(registry, "b")
    first, second, third = (connect(registry, "a", busy=busy) for busy in (True, False, False))

    fourth = connect(registry, "a")

    assert first
    assert second
    assert third
    assert fourth
    assert other
    assert fourth.admission is Admission.FULL
    assert [connection.is_open for connection in (first, second, third, fourth, other)] == [
        True, False, True, True, True,
    ]  # fmt: skip


def test_client_with_the_most_connections_loses_its_oldest_at_the_total_limit() -> None:
    registry = Connections(LIMITS, capacity=100)
    lone = connect(registry, "b")
    many = [connect(registry, "a") for _ in range(3)]

    newcomer = connect(registry, "c")

    assert lone
    assert newcomer
    assert all(many)
    assert lone.is_open
    assert newcomer.admission is Admission.FULL
    assert [connection.is_open for connection in many if connection] == [False, True, True]


def test_health_connections_remain_when_all_others_are_busy() -> None:
    registry = Connections(LIMITS, capacity=100)
    for client in "abcd":
        connect(registry, client, busy=True)

    checks = [connect(registry, "probe") for _ in range(3)]

    assert [check.admission for check in checks if check] == [Admission.HEALTH_ONLY] * 3
    # The reserve holds two connections, so the third evicted the oldest.
    assert [check.is_open for check in checks if check] == [False, True, True]
    assert registry.open_count == 6


def test_connection_is_rejected_when_the_reserve_is_busy_too() -> None:
    registry = Connections(LIMITS, capacity=100)
    for client in "abcdef":
        connect(registry, client, busy=True)

    assert connect(registry, "g") is None


def test_streams_have_a_separate_count_and_limit() -> None:
    registry = Connections(LIMITS, capacity=100)
    streams = [connect(registry, "a", busy=True) for _ in range(3)]

    began = [registry.begin_stream(stream, "a") for stream in streams if stream]

    assert began == [True, True, False]
    assert registry.open_count == 1
    assert registry.stream_count == 2
    assert [connect(registry, "a", busy=True) for _ in range(2)].count(None) == 0


def test_connection_whose_stream_has_ended_may_begin_another_at_the_limit_of_streams() -> None:
    registry = Connections(LIMITS, capacity=100)
    streams = [connect(registry, "a", busy=True) for _ in range(2)]
    for stream in streams:
        assert stream
        assert registry.begin_stream(stream, "a")

    assert streams[0]
    registry.end_stream(streams[0], "a")

    assert (registry.stream_count, registry.open_count) == (1, 1)
    assert registry.begin_stream(streams[0], "a")
    assert (registry.stream_count, registry.open_count) == (2, 0)


def test_closed_connection_does_not_count_as_a_stream() -> None:
    registry = Connections(LIMITS, capacity=100)
    gone = connect(registry, "a", busy=True)
    assert gone
    registry.remove(gone, "a")

    registry.begin_stream(gone, "a")

    assert registry.stream_count == 0


def test_stream_on_a_connection_for_health_checks_is_rejected_for_the_number_of_connections() -> None:
    counted: list[str] = []
    registry = Connections(LIMITS, capacity=100, count=counted.append)
    for client in "abcd":
        connect(registry, client, busy=True)
    check = connect(registry, "probe", busy=True)
    assert check
    counted.clear()

    assert not registry.begin_stream(check, "probe")

    assert counted == ["too_many_connections"]
    assert registry.stream_count == 0


def test_descriptors_bound_connections_below_the_setting() -> None:
    registry = Connections(LIMITS, capacity=2)
    kept = [connect(registry, client, busy=True) for client in "ab"]

    third = connect(registry, "c")

    assert third
    assert third.admission is Admission.HEALTH_ONLY
    assert all(kept)


def test_repeated_rejections_are_logged_at_once_and_then_summed_up() -> None:
    now = 100.0
    counted: list[str] = []
    registry = Connections(LIMITS, capacity=100, count=counted.append, clock=lambda: now)

    with capture_logs() as logs:
        for _ in range(1_000):
            registry.note("headers_too_large", client="a")
        registry.check_all(0)
        now += REPEAT_LOG_S
        registry.check_all(0)
        now += REPEAT_LOG_S
        registry.check_all(0)
        registry.note("headers_too_large", client="a")

    assert [(entry["event"], entry.get("times")) for entry in logs] == [
        ("http_rejected", None),
        ("http_rejections_repeated", 999),
        ("http_rejected", None),
    ]
    assert len(counted) == 1_001


class Crowd(RuleBasedStateMachine):
    """Connections that arrive, stream and leave in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Connections(LIMITS, capacity=5)
        self.known: list[FakeConnection] = []

    @property
    def present(self) -> list[FakeConnection]:
        return [connection for connection in self.known if connection.is_open]

    @rule(client=st.sampled_from("abc"), busy=st.booleans())
    def arrive(self, client: str, busy: bool) -> None:
        was_stuck = all(not connection.is_waiting for connection in self.present)
        made = connect(self.registry, client, busy=busy)
        assert made is not None or was_stuck
        if made is not None:
            self.known.append(made)

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        leaving = data.draw(st.sampled_from(self.present))
        leaving.is_open = False
        self.registry.remove(leaving, leaving.client)

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def stream(self, data: st.DataObject) -> None:
        streaming = data.draw(st.sampled_from(self.present))
        streaming.is_waiting = False
        self.registry.begin_stream(streaming, streaming.client)

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def end_stream(self, data: st.DataObject) -> None:
        ending = data.draw(st.sampled_from(self.present))
        self.registry.end_stream(ending, ending.client)

    @invariant()
    def limits_hold(self) -> None:
        assert self.registry.stream_count <= 2
        # Ended streams count as connections again, so only the descriptors limit the number of connections.
        assert self.registry.open_count + self.registry.stream_count <= 5 + 2
        assert self.registry.open_count + self.registry.stream_count == len(self.present)


CrowdTest = Crowd.TestCase
