"""When an installation is open: the moment at which each process notices a change, and the audit log of changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from relab.access.errors import MissingTokenError
from relab.access.models import AccessState, Scope
from relab.access.service import AccessService, Credentials
from relab.storage import Database
from support.clocks import MovableClock

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
LOCAL = Credentials(client_host="127.0.0.1", host="localhost:8000")

Make = Callable[..., AccessService]


def test_first_token_closes_every_process_within_a_second(make: Make, clock: MovableClock) -> None:
    process, other = make(), make()
    assert process.is_open()
    other.create_token("ci", [Scope.READ])
    clock.us += SECOND_US

    assert not process.is_open()
    with pytest.raises(MissingTokenError):
        process.authorize(LOCAL, Scope.READ)


def test_reopening_reaches_every_process_within_a_second(make: Make, clock: MovableClock) -> None:
    process, other = make(), make()
    process.revoke_token(process.create_token("ci", [Scope.READ]).info.token_id)
    assert not process.is_open()
    other.reopen(by="ada")
    clock.us += SECOND_US

    assert process.is_open()


def test_clock_that_is_set_back_keeps_no_process_open(make: Make, clock: MovableClock) -> None:
    process, other = make(), make()
    assert process.is_open()
    other.create_token("ci", [Scope.READ])
    clock.us -= 1

    assert not process.is_open()


def test_process_that_changes_the_openness_notices_it_at_once(make: Make) -> None:
    access = make()
    assert access.is_open()
    made = access.create_token("ci", [Scope.READ])
    assert not access.is_open()
    access.revoke_token(made.info.token_id)
    access.reopen(by="ada")
    assert access.is_open()


def test_state_has_the_time_of_the_closing_and_not_of_later_tokens(make: Make, clock: MovableClock) -> None:
    access = make()
    assert access.state() == AccessState(is_open=True, changed_at=None, valid_tokens=0)
    closed_at = clock.us
    for name in ("first", "second"):
        access.create_token(name, [Scope.READ])
        clock.us += HOUR_US

    assert access.state() == AccessState(is_open=False, changed_at=closed_at, valid_tokens=2)


def test_state_of_an_installation_whose_row_is_lost_is_closed_since_an_unknown_time(
    make: Make, database: Database
) -> None:
    with database.write() as unit:
        unit.session.execute(text("DELETE FROM access_state"))

    assert make().state() == AccessState(is_open=False, changed_at=None, valid_tokens=0)


def test_audit_log_keeps_the_start_of_a_long_name_of_the_person(make: Make) -> None:
    access = make()
    access.create_token("ci", [Scope.READ], by="ada" + "x" * 5_000)

    [event] = access.list_events()
    assert event.actor == "ada" + "x" * 197


def test_audit_log_shows_at_most_the_wanted_number_of_newest_events(make: Make) -> None:
    access = make()
    made = [access.create_token(name, [Scope.READ]).info.token_id for name in ("a", "b", "c")]

    assert [event.token_id for event in access.list_events(limit=2)] == made[:0:-1]
