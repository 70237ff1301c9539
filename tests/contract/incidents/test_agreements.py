"""State that all processes of a responder share: pause switches, leases and baselines."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from relab.incidents.detection.baseline import Baseline
from relab.incidents.models import Snapshot
from relab.incidents.storage.coordination import MAX_BASELINE_BYTES, MAX_LEASE_US, Leases
from relab.incidents.storage.errors import BaselineTooLargeError
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import Lease
from support.incidents.acts import NOW_US
from support.incidents.logs import MINUTE_US, SECOND_US, opened


def holder(leases: Leases, target: str, *, now_us: int) -> Lease | None:
    return next((lease for lease in leases.held(now_us=now_us) if lease.target == target), None)


def loaded(content: dict[str, Any]) -> Baseline:
    made = Baseline()
    made.take(content)
    return made


def test_nothing_is_paused_by_default(log: IncidentLog, target: str) -> None:
    assert not log.switches.state(target).is_paused

    log.switches.pause(target, by="ann", why="a deploy", at_us=NOW_US)

    state = log.switches.state(target)
    assert state.is_paused is True
    assert state.target == target
    assert state.by == "ann"
    assert state.at == NOW_US
    assert state.why == "a deploy"
    assert not log.switches.state(f"{target}-other").is_paused
    log.switches.resume(target, by="bob", at_us=NOW_US + 1)
    state = log.switches.state(target)
    assert state.is_paused is False
    assert state.by == "bob"


def test_pause_of_all_targets_overrides_the_resume_of_one(log: IncidentLog, target: str) -> None:
    log.switches.pause(None, by="ann", at_us=NOW_US)
    log.switches.resume(target, by="bob", at_us=NOW_US)

    state = log.switches.state(target)
    assert state.is_paused is True
    assert state.target == "*"
    assert state.by == "ann"
    log.switches.resume(None, by="ann", at_us=NOW_US)
    assert not log.switches.state(target).is_paused


def test_pause_of_one_target_survives_the_resume_of_all(log: IncidentLog, target: str) -> None:
    log.switches.pause(target, by="ann", at_us=NOW_US)
    log.switches.pause(None, by="bob", at_us=NOW_US)
    log.switches.resume(None, by="bob", at_us=NOW_US)

    assert log.switches.state(target).by == "ann"
    assert log.switches.state(target).is_paused


def test_pause_is_added_to_the_timelines_of_open_incidents(log: IncidentLog, target: str) -> None:
    mine, other = opened(log, target), opened(log, f"{target}-other")
    log.switches.pause(target, by="ann", why="\x00" * 5_000, at_us=NOW_US)
    log.switches.pause(None, by="ann", at_us=NOW_US)
    log.switches.resume(None, by="ann", at_us=NOW_US)

    assert [event.kind for event in log.read_after(mine.incident_id, 1)] == ["paused", "paused", "resumed"]
    assert [event.message for event in log.read_after(other.incident_id, 1)] == [
        "ann has paused everything.",
        "ann has resumed everything.",
    ]


def test_lease_has_one_holder_until_it_expires(log: IncidentLog, target: str) -> None:
    leases = log.leases
    until = NOW_US + 30 * SECOND_US

    first = leases.take(target, "a", now_us=NOW_US, until_us=until)

    assert first is not None
    assert first.owner == "a"
    assert first.term == 1
    assert first.until == until
    assert leases.take(target, "b", now_us=NOW_US + 1, until_us=until + 1) is None
    kept = leases.take(target, "a", now_us=NOW_US + 1, until_us=until + 5)
    assert kept is not None
    assert kept.term == 1
    assert kept.until == until + 5
    assert holder(leases, target, now_us=until) == kept
    assert holder(leases, target, now_us=until + 5) is None
    over = leases.take(target, "b", now_us=until + 5, until_us=until + 10)
    assert over is not None
    assert over.owner == "b"
    assert over.term == 2
    assert leases.take(target, "a", now_us=until + 6, until_us=until + 20) is None


def test_only_the_owner_can_release_a_lease(log: IncidentLog, target: str) -> None:
    log.leases.take(target, "a", now_us=NOW_US, until_us=NOW_US + SECOND_US)
    log.leases.release(target, "b")
    assert log.leases.take(target, "b", now_us=NOW_US, until_us=NOW_US + SECOND_US) is None

    log.leases.release(target, "a")

    assert holder(log.leases, target, now_us=NOW_US) is None
    taken = log.leases.take(target, "b", now_us=NOW_US, until_us=NOW_US + SECOND_US)
    assert taken is not None
    assert taken.term == 2


def test_clock_that_was_set_back_does_not_extend_a_lease(log: IncidentLog, target: str) -> None:
    log.leases.take(target, "dead", now_us=NOW_US, until_us=NOW_US + SECOND_US)
    back = NOW_US - 24 * 60 * MINUTE_US

    assert holder(log.leases, target, now_us=back) is None
    taken = log.leases.take(target, "next", now_us=back, until_us=back + SECOND_US)

    assert taken is not None
    assert taken.owner == "next"


@pytest.mark.parametrize("until_us", [NOW_US, NOW_US - 1, NOW_US + MAX_LEASE_US + 1])
def test_lease_of_invalid_length_is_rejected(log: IncidentLog, target: str, until_us: int) -> None:
    with pytest.raises(ValueError, match="600 s"):
        log.leases.take(target, "a", now_us=NOW_US, until_us=until_us)


class LeaseMachine(RuleBasedStateMachine):
    """Owners take and release a lease in random order while time passes; a simple model predicts the holder."""

    log: IncidentLog
    target: str
    games = 0

    def __init__(self) -> None:
        super().__init__()
        LeaseMachine.games += 1
        self.name = f"{self.target}-{LeaseMachine.games}"
        self.now = NOW_US
        self.owner: str | None = None
        self.until = 0
        self.term = 0

    @rule(us=st.integers(0, 40))
    def time_passes(self, us: int) -> None:
        self.now += us

    @rule(owner=st.sampled_from("abc"), us=st.integers(1, 30))
    def take(self, owner: str, us: int) -> None:
        taken = self.log.leases.take(self.name, owner, now_us=self.now, until_us=self.now + us)
        is_free = self.until <= self.now or self.owner == owner
        assert (taken is not None) == is_free
        if taken is not None:
            self.term += owner != self.owner
            self.owner, self.until = owner, self.now + us
            assert taken.owner == owner
            assert taken.until == self.until
            assert taken.term == self.term

    @rule(owner=st.sampled_from("abc"))
    def release(self, owner: str) -> None:
        self.log.leases.release(self.name, owner)
        if owner == self.owner:
            self.until = 0

    @invariant()
    def the_holder_is_who_took_it_last(self) -> None:
        held = holder(self.log.leases, self.name, now_us=self.now)
        assert (held.owner if held is not None else None) == (self.owner if self.until > self.now else None)


def test_leases_agree_with_a_simple_model(log: IncidentLog, target: str) -> None:
    LeaseMachine.log, LeaseMachine.target = log, target
    run_state_machine_as_test(LeaseMachine, settings=settings(max_examples=8, stateful_step_count=12, deadline=None))


def test_last_saved_baseline_is_loaded(log: IncidentLog, target: str) -> None:
    learnt = Baseline()
    for number in range(9):
        learnt.learn(Snapshot(at_us=number, numbers={"errors.pct": 0.1 * number, "route.\x00.p95_ms": 1e-9}))
    assert log.baselines.load(target) is None

    log.baselines.save(target, {"errors.pct": [1.0]}, at_us=NOW_US)
    log.baselines.save(target, learnt.dump(), at_us=NOW_US + 1)

    found = log.baselines.load(target)
    assert found is not None
    assert loaded(found).usual("errors.pct") == learnt.usual("errors.pct")
    assert set(found) == {"errors.pct", "route.\ufffd.p95_ms"}


def test_oversized_baseline_is_rejected_and_the_stored_one_stays(log: IncidentLog, target: str) -> None:
    log.baselines.save(target, {"errors.pct": [1.0]}, at_us=NOW_US)

    for huge in (
        {"x" * MAX_BASELINE_BYTES: [1.0]},
        {str(number): [0.1234567890123456] * 240 for number in range(2_000)},
    ):
        with pytest.raises(BaselineTooLargeError):
            log.baselines.save(target, huge, at_us=NOW_US)

    assert log.baselines.load(target) == {"errors.pct": [1.0]}
