"""Errors of telemetry."""

from __future__ import annotations

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError


class AgentRunNotFoundError(NotFoundError):
    """No agent run has this id."""

    code = "agent_run_not_found"

    def __init__(self, agent_run_id: str) -> None:
        super().__init__(f"There is no agent run {agent_run_id!r}.")


class InvalidAgentRunError(InvalidInputError):
    """The posted run breaks the schema; `problems` names the fields, of each list those of the first wrong item."""

    code = "invalid_agent_run"


class InvalidCursorError(InvalidInputError):
    """The cursor is not one that this list gave out."""

    code = "invalid_cursor"


class SourceConflictError(ConflictError):
    """The id belongs to a run that came in through the other door (JSON or OTLP)."""

    code = "agent_run_source_conflict"
