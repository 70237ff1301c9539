"""Parse the bytes of a request into an `AgentRun`, or raise an error that lists the invalid fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pydantic import ValidationError

from relab.core.errors import InvalidInputError
from relab.core.json import JsonValue, parse_json
from relab.core.validation import plain_message
from relab.telemetry.errors import InvalidAgentRunError
from relab.telemetry.models import ITEM_KINDS, AgentRun, ItemKind

MAX_PROBLEMS = 50
"""The maximum number of reported errors, so that a body with a million errors gets a response of bounded size."""


def read_agent_run(raw: bytes) -> AgentRun:
    """Parse and check one agent run.

    Raises:
        MalformedBodyError: the bytes are not strict JSON (see `core/json.py`).
        InvalidAgentRunError: the JSON is not an agent run; the error names the invalid fields.
    """
    return check_agent_run(parse_json(raw))


def check_agent_run(value: JsonValue) -> AgentRun:
    """Check that a JSON value is an agent run, and return it as an object.

    Raises:
        InvalidAgentRunError: the value is not an agent run, or an id occurs twice in a list of steps, calls or events.
            The error names at most 50 invalid fields. If such a list has several invalid items, only the first of them
            is named.
    """
    try:
        run = AgentRun.model_validate(value)
    except ValidationError as error:
        raise _invalid(problems_of(error)) from error
    duplicates = [
        problem
        for kind in ITEM_KINDS
        for problem in _duplicates(kind, [getattr(item, kind.id_field) for item in getattr(run, kind.list_name)])
    ]
    if duplicates:
        raise _invalid(duplicates)
    return run


def problems_of(error: ValidationError) -> list[tuple[str, str]]:
    """Return `(path of the field, message)` for each validation error of pydantic.

    A path is like `steps.0.name`; it is `body` if the error is about the whole value.
    """
    return [
        (".".join(str(part) for part in item["loc"]) or "body", plain_message(item["msg"]))
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _duplicates(kind: ItemKind, ids: Iterable[str]) -> list[tuple[str, str]]:
    counts = Counter(ids)
    return [
        (f"{kind.list_name}.{kind.id_field}", f"{item_id!r} occurs {count} times; ids are unique within a run")
        for item_id, count in counts.items()
        if count > 1
    ]


def _invalid(problems: list[tuple[str, str]]) -> InvalidInputError:
    shown = tuple((field[:500], message[:500]) for field, message in problems[:MAX_PROBLEMS])
    field, message = shown[0]
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidAgentRunError(f"The agent run is not valid: {field}: {message}{more}.", problems=shown)
