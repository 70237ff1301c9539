"""The restoration of flags: whose changes it undoes, which errors it retries, and when it gives up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from relab.core.errors import RelabError
from relab.core.json import JsonValue, equal_json
from relab.rollouts.errors import (
    FlagsChangedError,
    FlagsNotAppliedError,
    FlagsNotRestoredError,
    FlagsRejectedError,
    SubjectError,
    TargetUnavailableError,
)
from relab.rollouts.execution.restoring import RestoredFlags, audit_after, restore_flags
from relab.rollouts.plans.models import Plan
from relab.rollouts.record import AuditEntry, OpenChange, RolloutRecord
from relab.rollouts.targets.protocol import FlagState

OLD, NEW, FOREIGN = "old", "new", "foreign"
CHANGE = OpenChange(inverse=OLD, values=[NEW])
DOWN = TargetUnavailableError("The target is down.")


@dataclass
class Flags:
    """One versioned flag of a target. `errors` are raised by the first calls of `send`."""

    value: JsonValue = NEW
    others: tuple[JsonValue, ...] = ()
    errors: list[RelabError] = field(default_factory=list)
    keeps: bool = True
    version: int = 1
    sent: list[tuple[JsonValue, str | None]] = field(default_factory=list)
    name: str = "flag"

    def read(self) -> FlagState:
        return FlagState(self.value, str(self.version), others=self.others)

    def send(self, wanted: JsonValue, expected: str | None) -> None:
        self.sent.append((wanted, expected))
        self.version += 1
        if self.errors:
            raise self.errors.pop(0)
        if self.keeps:
            self.value, self.others = wanted, ()

    def holds(self, state: FlagState, wanted: JsonValue) -> bool:
        return all(equal_json(value, wanted) for value in state.values)

    def inverse(self, _wanted: JsonValue, before: FlagState) -> JsonValue:
        return before.value

    def command(self, wanted: JsonValue) -> str:
        return f"set {wanted}"


def restored(flags: Flags, within_s: float = 5) -> RestoredFlags:
    return restore_flags(flags, CHANGE, within_s=within_s)


@pytest.mark.parametrize(("value", "others"), [(NEW, ()), (OLD, ()), (NEW, (OLD,)), (OLD, (NEW,))])
def test_change_of_the_rollout_is_undone_in_all_parts(value: JsonValue, others: Sequence[JsonValue]) -> None:
    flags = Flags(value, tuple(others))

    assert restored(flags) == RestoredFlags(True, "The flags have their earlier values.")
    assert flags.value == OLD
    # The change is sent even if the value is the earlier one already: it invalidates a change that is under way.
    assert flags.sent == [(OLD, "1")]


@pytest.mark.parametrize(("value", "others"), [(FOREIGN, ()), (NEW, (FOREIGN,)), (FOREIGN, (OLD, NEW))])
def test_change_of_another_client_stays(value: JsonValue, others: Sequence[JsonValue]) -> None:
    flags = Flags(value, tuple(others))

    found = restored(flags)

    assert not found.restored
    assert "changed by another client" in found.message
    assert flags.sent == []


@pytest.mark.parametrize("error", [DOWN, SubjectError("The version is missing."), FlagsChangedError("It is at 2.")])
def test_temporary_error_is_retried_until_the_time_is_over(error: RelabError) -> None:
    flags = Flags(errors=[error])

    assert restored(flags).restored
    assert flags.sent == [(OLD, "1"), (OLD, "2")]
    with pytest.raises(type(error)):
        restored(Flags(errors=[error]), within_s=0)


def test_rejected_change_counts_as_restored_only_with_the_earlier_flags() -> None:
    def rejection() -> list[RelabError]:
        return [FlagsRejectedError("The credential has expired.")]

    assert restored(Flags(OLD, errors=rejection())).restored is True
    with pytest.raises(FlagsNotRestoredError, match="expired"):
        restored(Flags(NEW, errors=rejection()))


def test_target_that_does_not_keep_the_earlier_flags_is_an_error() -> None:
    with pytest.raises(FlagsNotAppliedError):
        restored(Flags(keeps=False), within_s=0)


@pytest.mark.parametrize(
    ("is_rollback", "is_restored", "is_added"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_only_a_successful_rollback_of_a_person_is_audited(
    is_rollback: bool, is_restored: bool, is_added: bool
) -> None:
    earlier, entry = (
        AuditEntry(at=at, actor="ann", action=action) for at, action in ((1, "applied"), (2, "rolled_back"))
    )
    record = RolloutRecord(
        rollout_id="r", target="flag", plan=Plan(), requested_by="ann", created_at=1, audit=(earlier,)
    )
    change = OpenChange(inverse=OLD, values=[NEW], rollback=entry if is_rollback else None)

    found = audit_after(record, change, RestoredFlags(is_restored, ""))

    assert found == ((earlier, entry) if is_added else (earlier,))
