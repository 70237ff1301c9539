"""Records of actions, of two kinds.

The responder stores a record of its own before it requests an action. The action server records the actions of all its
clients, and this module parses these records.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from relab.core.clock import Timestamp, parse_time
from relab.core.json import digest
from relab.incidents.actions.catalogue import ParameterValue, UserImpact

MAX_KEY: Final = 200
_MAX_TEXT: Final = 500
_MAX_RECORDS: Final = 500
_MAX_PARAMETERS: Final = 50
_MAX_NUMBER: Final = 1e15


class ActionStatus(StrEnum):
    """The status of an action: requested, succeeded, failed, refused, or rolled back afterwards."""

    ASKED = "asked"
    """The responder has stored the action, and perhaps requested it; it is unknown whether it was done."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The action was begun and did not succeed, or it was interrupted."""
    REFUSED = "refused"
    """No action was executed."""
    UNDONE = "undone"
    """The action was done and rolled back afterwards."""


class RepairResult(StrEnum):
    """The result of verifying an action: whether the repaired cause is gone, and whether users are served well."""

    NOT_YET = "not_yet"
    RECOVERING = "recovering"
    """The cause is gone and users are served; latency, or the target's own health status, is not normal yet: keep watching."""
    VERIFIED = "verified"
    MITIGATED = "mitigated"
    """The cause is gone, but the service is not verified to be back to normal.

    The recovery took too long, or too few requests arrived to verify it.
    """
    OTHER_CAUSE = "other_cause"
    """The cause is gone, but the service is not back to normal: there is another cause, which must be diagnosed."""
    FAILED = "failed"
    WORSE = "worse"
    """Errors or P95 are clearly higher than before the action: roll it back."""

    @property
    def is_pending(self) -> bool:
        """Whether this result is not final (`NOT_YET` or `RECOVERING`), so that more polls are needed."""
        return self in {RepairResult.NOT_YET, RepairResult.RECOVERING}

    @property
    def as_effect(self) -> StoredRepairResult:
        """The final result in the form that action records store.

        `OTHER_CAUSE` (the cause that the action repairs is gone, but there is another cause) is stored as `MITIGATED`.
        All other final results are stored unchanged.

        Raises:
            ValueError: the result is not final yet.
        """
        if self is RepairResult.OTHER_CAUSE:
            return RepairResult.MITIGATED
        if self is RepairResult.NOT_YET or self is RepairResult.RECOVERING:
            raise ValueError(f"A record stores no pending result, and {self.value} is pending.")
        return self


StoredRepairResult = Literal[RepairResult.VERIFIED, RepairResult.MITIGATED, RepairResult.FAILED, RepairResult.WORSE]
"""The results that a record stores."""


@dataclass(frozen=True, slots=True)
class ExcludedAction:
    """An action that must not be tried again, in one incident, on one part of the service.

    Attributes:
        target: the part of the service.
        fingerprint: the digest of the action's name and its parameters.
    """

    action: str
    target: str
    fingerprint: str


class ActionRecord(BaseModel):
    """An action or a rollback that this responder has requested; stored as JSON.

    Attributes:
        key: the `Idempotency-Key`. A request with the same key never executes the action a second time.
        attempt: the number of the attempt within the incident, from 1.
        action_class: the kind of change, from the server's catalogue.
        blast_radius: how many users notice the action.
        parameters: the values of the action's parameters, by name.
        why: why the action should help.
        asked_at: when the action was requested.
        finished_at: when the result was stored, or the rollback of the action; None without a result.
        error: why the action failed or was refused; None if it did neither.
        target: the part of the service that the action changes, such as a component's name.
        cause: the cause that the action was to repair.
        state_digest: the digest of the service's state when the responder decided.
        record_id: the id of the action server's record; None until it is known.
        undoes: for a rollback, the id of the server's record of the original action; else None.
        approved_by: the person who approved the action; None if no approval was needed.
        effect: the result of verifying the action; None until verification has ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    incident_id: str
    attempt: int
    action: str
    action_class: str
    blast_radius: UserImpact
    target: str
    parameters: dict[str, ParameterValue] = {}
    cause: str
    why: str = ""
    asked_at: Timestamp
    state_digest: str | None = None
    status: ActionStatus = ActionStatus.ASKED
    record_id: str | None = None
    undoes: str | None = None
    error: str | None = None
    finished_at: Timestamp | None = None
    approved_by: str | None = None
    effect: StoredRepairResult | None = None

    @property
    def tried(self) -> ExcludedAction:
        """This action as an entry in an incident's list of excluded actions, which must not be tried again."""
        return ExcludedAction(self.action, self.target, fingerprint(self.action, self.parameters))

    @property
    def counts(self) -> bool:
        """Whether the policy's limits count this action: the server did not refuse it, and it is no rollback."""
        return self.status is not ActionStatus.REFUSED and self.undoes is None


def fingerprint(action: str, parameters: Mapping[str, ParameterValue]) -> str:
    """Return a digest of an action's name and its parameters; plans and actions with the same digest are the same."""
    return digest([action, dict(parameters)])


def idempotency_key(incident_id: str, attempt: int, action: str) -> str:
    """Return the idempotency key of an incident's action: `<incident>:<attempt>:<action>`.

    `attempt` is the number of the plan within the incident, from 1. A key that is too long or not printable ASCII is
    replaced by its digest.
    """
    # Made from stored values only, so that a restarted process sends the same key.
    key = f"{incident_id}:{attempt}:{action}"
    if len(key) <= MAX_KEY and key.isascii() and key.isprintable():
        return key
    return digest([incident_id, attempt, action])


_SERVER_STATUSES: Final = {
    "started": ActionStatus.ASKED,
    "succeeded": ActionStatus.SUCCEEDED,
    "failed": ActionStatus.FAILED,
    "interrupted": ActionStatus.FAILED,
    "undone": ActionStatus.UNDONE,
}
"""The action status for each status name of the action server."""


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """One action that a client has requested, as recorded by the action server.

    Attributes:
        actor: the name of the token of the request.
        target: the part of the service that the action changed.
        requested_at_us: when the action was requested, in microseconds since 1970. The time is by the server's clock
            until the client converts it to the local clock.
        key: the `Idempotency-Key` of the request; None if the request had no key.
        undoes: for a rollback, the id of the record whose action it rolls back; else None.
        after: the state after the action, as the server sent it.
        parameters: the parameters that are numbers, strings or booleans; others are left out.
    """

    record_id: str
    action: str
    actor: str
    target: str
    requested_at_us: int
    status: ActionStatus
    key: str | None = None
    error: str | None = None
    undoes: str | None = None
    after: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)


def read_record(document: Any) -> ServerRecord | None:
    """Parse the JSON of the action server's record of one action; return None if it is not valid."""
    if not isinstance(document, Mapping):
        return None
    texts = {name: document.get(name) for name in ("record_id", "action", "actor", "target", "requested_at")}
    if any(not isinstance(text, str) or not 1 <= len(text) <= MAX_KEY for text in texts.values()):
        return None
    status = _status(document.get("status"))
    if status is None:
        return None
    try:
        requested_at_us = parse_time(str(texts["requested_at"]))
    except ValueError:
        return None
    after = document.get("after")
    return ServerRecord(
        record_id=str(texts["record_id"]),
        action=str(texts["action"]),
        actor=str(texts["actor"]),
        target=str(texts["target"]),
        requested_at_us=requested_at_us,
        status=status,
        key=_optional(document.get("key")),
        error=_optional(document.get("error")),
        undoes=_optional(document.get("undoes")),
        after=after if isinstance(after, Mapping) else {},
        parameters=_parameters(document.get("parameters")),
    )


def read_records(document: Any) -> tuple[list[ServerRecord], int]:
    """Parse the JSON of an answer with several of the action server's records of actions.

    Returns:
        The valid records in the server's order, newest first, and the number of rows that were left out: invalid rows,
        and rows after the first `_MAX_RECORDS`. `([], 1)` if the document has no list of records.
    """
    rows = document.get("records") if isinstance(document, Mapping) else None
    if not isinstance(rows, list):
        return [], 1
    found = [record for row in rows[:_MAX_RECORDS] if (record := read_record(row)) is not None]
    return found, len(rows) - len(found)


def of_others(
    records: Collection[ServerRecord], acts: Sequence[ActionRecord], *, since_us: int
) -> tuple[ServerRecord, ...]:
    """Return the server's records of changes, from `since_us` on, that this responder did not make.

    A record is from this responder in two cases: it has the key or the id of one of the responder's actions, or it is a
    rollback of such an action by the same token.

    Args:
        records: records of the action server.
        acts: all actions of this responder.
        since_us: the earliest time, in microseconds since 1970, by the local clock.
    """
    keys = {act.key for act in acts}
    ids = {act.record_id for act in acts if act.record_id is not None}
    ours = {record.record_id: record.actor for record in records if record.key in keys or record.record_id in ids}
    return tuple(
        record
        for record in records
        if record.requested_at_us >= since_us
        and record.record_id not in ours
        # A rollback has no key, and a killed responder does not know the id of its record.
        and not (record.undoes is not None and ours.get(record.undoes) == record.actor)
    )


def _parameters(value: Any) -> dict[str, ParameterValue]:
    if not isinstance(value, Mapping):
        return {}
    plain = {str(name)[:MAX_KEY]: item for name, item in value.items() if _is_plain(item)}
    return dict(list(plain.items())[:_MAX_PARAMETERS])


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_TEXT
    return isinstance(value, bool | int | float) and -_MAX_NUMBER <= value <= _MAX_NUMBER


def _status(value: Any) -> ActionStatus | None:
    return _SERVER_STATUSES.get(value) if isinstance(value, str) else None


def _optional(value: Any) -> str | None:
    return value[:_MAX_TEXT] if isinstance(value, str) else None
