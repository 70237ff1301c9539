"""Store the state that all processes of a responder share: kill switches, leases and baselines.

A lease gives one process the right to run a loop, such as the loop that polls a target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relab.core.json import canonical_json
from relab.incidents.storage import coordination_repository, repository
from relab.incidents.storage.errors import BaselineTooLargeError
from relab.incidents.storage.models import EventKind, Lease, NewEvent, SwitchState
from relab.incidents.storage.text_limits import bounded_object, cut, name_of
from relab.incidents.storage.timeline import Timeline
from relab.storage import Database

ALL_TARGETS: Final = "*"
"""The target of the kill switch that pauses all targets."""
NOTICES: Final = "/notices/"
"""The prefix of the names of leases that are not for a target but for sending notices."""
MAX_LEASE_US: Final = 600 * 1_000_000
MAX_BASELINE_BYTES: Final = 8_388_608


class Switches:
    """Stores the kill switches, which pause the responder: one for each target, and one for all targets together."""

    def __init__(self, database: Database, timeline: Timeline) -> None:
        self._database = database
        self._timeline = timeline

    def pause(self, target: str | None, *, by: str, why: str = "", at_us: int) -> SwitchState:
        """Pause the responder on a target, or on all targets (None): it requests no actions on a paused target.

        An event is appended to the open incident of the target, or to all open incidents (None).

        Args:
            target: the target; None for all targets.
            by: the name of the person who pauses it.
            why: the reason.
            at_us: the current time, in microseconds since 1970.

        Returns:
            The new state of the switch.
        """
        return self._turn(target, is_paused=True, by=by, why=why, at_us=at_us)

    def resume(self, target: str | None, *, by: str, why: str = "", at_us: int) -> SwitchState:
        """End the pause of one target, or the pause of all targets (None).

        An event is appended to the open incident of the target, or to all open incidents (None).

        Ending one pause does not end the other: a target is paused while its own pause or that of all targets lasts.

        Args:
            target: the target; None for the pause of all targets.
            by: the name of the person who ends the pause.
            why: the reason.
            at_us: the current time, in microseconds since 1970.

        Returns:
            The new state of the switch.
        """
        return self._turn(target, is_paused=False, by=by, why=why, at_us=at_us)

    def state(self, target: str) -> SwitchState:
        """Return the state of the kill switch that applies to a target.

        It is the switch of all targets if all targets are paused, otherwise the target's own switch.
        """
        name = name_of(target)
        with self._database.read() as session:
            found = {row.target: row for row in coordination_repository.switches(session, (ALL_TARGETS, name))}
        paused = [row for row in (found.get(ALL_TARGETS), found.get(name)) if row is not None and row.is_paused]
        row = paused[0] if paused else found.get(name)
        if row is None:
            return SwitchState(target=name, is_paused=False)
        return SwitchState.model_validate(row, from_attributes=True)

    def still_on(self, target: str | None) -> list[SwitchState]:
        """Return the kill switches that pause a target, or any target (None), sorted by target.

        After the pause of this target, or of all targets, has ended, these are the pauses that remain.
        """
        names = None if target is None else (ALL_TARGETS, name_of(target))
        with self._database.read() as session:
            rows = [row for row in coordination_repository.switches(session, names) if row.is_paused]
        return [SwitchState.model_validate(row, from_attributes=True) for row in rows]

    def _turn(self, target: str | None, *, is_paused: bool, by: str, why: str, at_us: int) -> SwitchState:
        name = ALL_TARGETS if target is None else name_of(target)
        state = SwitchState(target=name, is_paused=is_paused, by=cut(by, 200), at=at_us, why=cut(why, 1_000))
        kind = EventKind.PAUSED if is_paused else EventKind.RESUMED
        what = "everything" if name == ALL_TARGETS else name
        reason = f": {state.why}" if state.why else "."
        event = NewEvent(kind, f"{state.by} has {kind.value} {what}{reason}", state.model_dump(mode="json"))
        with self._database.write() as unit:
            coordination_repository.put_switch(unit.session, state.model_dump())
            for incident_id in repository.open_ids(unit.session, None if name == ALL_TARGETS else name):
                self._timeline.append_events(unit, incident_id, at_us, [event])
        return state


class Leases:
    """Stores the leases of targets.

    Only the process that holds the lease of a target polls this target and responds to the target's incidents.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, target: str, owner: str, *, now_us: int, until_us: int) -> Lease | None:
        """Acquire or renew the lease of a target, and return the lease; return None while another owner holds it.

        A stored lease that ends more than `MAX_LEASE_US` after `now_us` counts as expired.

        Args:
            target: the name of the target. A loop that serves all targets, such as the loop that sends notices, uses a
                name of its own instead.
            owner: the name of the process that acquires or renews the lease.
            now_us: the current time, in microseconds since 1970.
            until_us: when the lease is to end, in microseconds since 1970.

        Raises:
            ValueError: `until_us` is not after `now_us`, or more than `MAX_LEASE_US` after it.
        """
        if not now_us < until_us <= now_us + MAX_LEASE_US:
            raise ValueError(f"a lease holds for up to {MAX_LEASE_US // 1_000_000} s from now")
        with self._database.write(durable=False) as unit:
            row = coordination_repository.take_lease(
                unit.session,
                {"target": name_of(target), "owner": name_of(owner), "until": until_us},
                now=now_us,
                # A later end is from before the clock was set back, and would keep other processes out for too long.
                latest=now_us + MAX_LEASE_US,
            )
        return None if row is None else Lease.model_validate(row, from_attributes=True)

    def release(self, target: str, owner: str) -> None:
        """Release the lease of a target if `owner` holds it, so that another process can acquire it at once."""
        with self._database.write(durable=False) as unit:
            coordination_repository.release_lease(unit.session, name_of(target), name_of(owner))

    def held(self, *, now_us: int) -> list[Lease]:
        """Return the leases that are valid at `now_us`, sorted by target."""
        with self._database.read() as session:
            rows = coordination_repository.list_leases(session, now=now_us, latest=now_us + MAX_LEASE_US)
        return [Lease.model_validate(row, from_attributes=True) for row in rows]

    def targets(self) -> list[str]:
        """Return the names of the targets whose lease was ever acquired."""
        with self._database.read() as session:
            return [name for name in coordination_repository.leased_targets(session) if not name.startswith(NOTICES)]


class Baselines:
    """Stores the baselines (the usual values of signals) of the targets, so that a restarted responder can load them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, target: str, content: Mapping[str, Any], *, at_us: int) -> None:
        """Replace the stored baseline of a target (the usual values of its signals).

        Args:
            target: the name of the target.
            content: the baseline, as JSON.
            at_us: the current time, in microseconds since 1970.

        Raises:
            BaselineTooLargeError: the baseline has more than `MAX_BASELINE_BYTES`; nothing is saved.
        """
        # The cut is above the limit, so that a baseline that is too large is detected and not cut.
        kept = bounded_object(content, 4 * MAX_BASELINE_BYTES)
        if len(canonical_json(kept).encode()) > MAX_BASELINE_BYTES:
            raise BaselineTooLargeError(
                f"The baseline of {name_of(target)} is more than {MAX_BASELINE_BYTES:,} bytes of JSON.",
                remedy="Reduce the number of polls or signals in it.",
            )
        with self._database.write(durable=False) as unit:
            coordination_repository.put_baseline(
                unit.session, {"target": name_of(target), "saved_at": at_us, "content": kept}
            )

    def load(self, target: str) -> dict[str, Any] | None:
        """Return the stored baseline (usual values) of a target, as it was saved; None if no baseline is stored."""
        with self._database.read() as session:
            return coordination_repository.get_baseline(session, name_of(target))
