"""Change the flags of a target and wait until they are in force; the protocol for all kinds of flags (`FlagTarget`)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from relab.core.json import JsonValue, canonical_json, equal_json
from relab.rollouts.errors import FlagsNotAppliedError, SubjectError

MAX_VALUE_BYTES: Final = 65_536
"""The size of flags as JSON; rollouts store and show them."""
_POLL_S: Final = 0.05
_MAX_DIFFERENCES: Final = 5
_SENT_AT_ONCE: Final = 4
_MAX_SHOWN: Final = 100
_ABSENT: Final = "\0absent"
"""The value that represents a field that a document does not have."""
_CHECK_FIELDS: Final = (
    "Check that the target has these fields and keeps them, and that nothing else changes them; describe flags of another "
    "form in `subject.flags` of the plan."
)
_SHARE_FLAGS: Final = (
    "Keep the flags where all processes of the service read them, such as a database; a service whose processes do not "
    "share its flags cannot be measured."
)


@dataclass(frozen=True, slots=True)
class FlagState:
    """The flags of a target at one moment.

    Attributes:
        value: the whole value: a document with several flags, or the value of a single flag.
        version: the version of the flags, for conditional changes; None if the target has no versions.
        is_applied: whether all parts of the target, such as its workers, use this value.
        others: other values that parts of the target have reported in place of `value`; empty if they agree.
    """

    value: JsonValue
    version: str | None = None
    is_applied: bool = True
    others: tuple[JsonValue, ...] = ()

    @property
    def values(self) -> tuple[JsonValue, ...]:
        """All values that parts of the target have reported."""
        return (self.value, *self.others)


class FlagTarget(Protocol):
    """Reads and changes the flags of one target, and undoes a change.

    In all methods, `wanted` is a change in the form that the target accepts: a part of the flags document, or the whole
    value of a flag.
    """

    @property
    def name(self) -> str:
        """A name that identifies the flags; a rollout leases it, so only one rollout at a time changes the flags."""
        ...

    def read(self) -> FlagState:
        """Return the current flags.

        Raises:
            TargetUnavailableError: the target does not answer, or its answer has an unexpected format.
            SubjectError: the flags do not exist, are too large, or have no usable version.
        """
        ...

    def send(self, wanted: JsonValue, expected: str | None) -> None:
        """Request a change, without checking its effect.

        Args:
            wanted: the change.
            expected: the version that the flags must have; None accepts any version.

        Raises:
            FlagsRejectedError: the target rejects the change as invalid.
            FlagsChangedError: the flags have another version than `expected`.
            TargetUnavailableError: the target does not answer; the change may have been made or not.
        """
        ...

    def holds(self, state: FlagState, wanted: JsonValue) -> bool:
        """Return whether the flags in `state` have the values that the change `wanted` sets."""
        ...

    def inverse(self, wanted: JsonValue, before: FlagState) -> JsonValue:
        """Return the change that undoes the change `wanted`: it restores the values in `before`."""
        ...

    def command(self, wanted: JsonValue) -> str:
        """Return a shell command that makes the change `wanted`. It does not check the version of the flags."""
        ...


def check_size(value: JsonValue, where: str) -> None:
    """Check that the JSON of flags has at most `MAX_VALUE_BYTES` bytes.

    Args:
        value: the flags.
        where: the URL of the flags, for the error message.

    Raises:
        SubjectError: the value is larger.
    """
    size = len(canonical_json(value).encode())
    if size > MAX_VALUE_BYTES:
        raise SubjectError(
            f"The flags at {where} have {size:,} bytes of JSON; at most {MAX_VALUE_BYTES:,} are allowed.",
            remedy="Check that `pointer` in `subject.flags` names one value.",
        )


def read_agreed(target: FlagTarget) -> FlagState:
    """Return the current flags of a target; all parts of the target must report the same flags.

    Raises:
        FlagsNotAppliedError: parts of the target report different values.
        TargetUnavailableError: the target does not answer.
    """
    found = target.read()
    if found.others:
        raise FlagsNotAppliedError(
            f"The flags of {target.name} are not the same in all processes ({shown_values(found)}).",
            values=found.values,
            remedy=f"Set them in all processes. {_SHARE_FLAGS}",
        )
    return found


def change_flags(
    target: FlagTarget,
    wanted: JsonValue,
    *,
    expected: str | None = None,
    within_s: float,
    repeats: bool = False,
) -> FlagState:
    """Change the flags of a target, wait until they are in force, and return them.

    Args:
        target: the target whose flags are changed.
        wanted: the new values, in the form that the target accepts: a part of the flags document, or the whole value
            of a flag.
        expected: the version that the flags must have before the change; None accepts any version.
        within_s: how many seconds the target may take until the flags are in force.
        repeats: whether to send the change again while parts of the target report different values. This helps with a
            service that keeps the flags in the memory of each worker: a request then changes only one worker.

    Raises:
        FlagsNotAppliedError: the flags are not in force within `within_s`.
        FlagsRejectedError: the target rejects the change as invalid.
        FlagsChangedError: the flags have another version than `expected`.
        TargetUnavailableError: the target does not answer.
    """
    target.send(wanted, expected)
    deadline_s = time.monotonic() + within_s
    while True:
        found = target.read()
        if found.is_applied and target.holds(found, wanted):
            return found
        if time.monotonic() >= deadline_s:
            state, remedy = "are accepted, but not by all parts,", _CHECK_FIELDS
            if found.others:
                state, remedy = f"are not the same in all processes ({shown_values(found)})", _SHARE_FLAGS
            elif not target.holds(found, wanted):
                differences = list(islice(_differences(found.value, wanted), _MAX_DIFFERENCES))
                state = f"have other values ({'; '.join(differences) or 'fields that the change does not have'})"
            raise FlagsNotAppliedError(
                f"The flags of {target.name} {state} {within_s:g} s after the change.",
                values=found.values,
                remedy=remedy,
            )
        if repeats and found.others:
            _send_again(target, wanted, found.version)
        time.sleep(_POLL_S)


def _send_again(target: FlagTarget, wanted: JsonValue, version: str | None) -> None:
    """Send a change again: once if the flags have a version, otherwise several times at once.

    If a service has several processes, these requests may reach different processes.
    """
    if version is not None:
        target.send(wanted, version)
        return
    with ThreadPoolExecutor(_SENT_AT_ONCE) as threads:
        list(threads.map(lambda _number: target.send(wanted, None), range(_SENT_AT_ONCE)))


def shown_values(state: FlagState) -> str:
    """Return the values that parts of a target have reported, shortened, for a message.

    An example is `20 and 10`. If the values are JSON documents, only the fields whose values differ are shown, such as
    `routing.policy: "rules" and "fixed"`.
    """
    values = list(islice(_distinct(state.values), _MAX_DIFFERENCES))
    return "; ".join(f"{path}: {shown}" if path else shown for path, shown in values)


def distinct_values(values: Iterable[JsonValue]) -> list[JsonValue]:
    """Return the values without repetitions, in order; numbers are compared by value, so that 20 equals 20.0."""
    found = list[JsonValue]()
    for value in values:
        if not any(equal_json(value, other) for other in found):
            found.append(value)
    return found


def _distinct(values: tuple[JsonValue, ...], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield `(dotted path, text)` for each field in which the documents `values` differ.

    The text has the different values, such as `1 and 2`. `path` is the path of the documents within the flags; "" for
    the whole value.
    """
    documents = [value for value in values if isinstance(value, dict)]
    if len(documents) < len(values):
        different = distinct_values(values)
        if len(different) > 1:
            texts = ("nothing" if value is _ABSENT else canonical_json(value)[:_MAX_SHOWN] for value in different)
            yield path, " and ".join(islice(texts, _MAX_DIFFERENCES))
        return
    for name in dict.fromkeys(name for document in documents for name in document):
        found = tuple(document.get(name, _ABSENT) for document in documents)
        yield from _distinct(found, f"{path}.{name}" if path else name)


def _differences(found: JsonValue, wanted: JsonValue, path: str = "") -> Iterator[str]:
    """Yield one text for each field of `wanted` that is missing in `found` or has another value there.

    An example is "control.policy is aimd, not off". `path` is the dotted name of the fields that contain `wanted`;
    empty for the whole flags.
    """
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name, value in wanted.items():
            place = f"{path}.{name}" if path else name
            if name in found:
                yield from _differences(found[name], value, place)
            else:
                yield f"{place} is missing"
    elif not equal_json(found, wanted):
        shown, asked = canonical_json(found)[:_MAX_SHOWN], canonical_json(wanted)[:_MAX_SHOWN]
        yield f"{path or 'the value'} is {shown}, not {asked}"
