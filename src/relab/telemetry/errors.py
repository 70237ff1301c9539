"""Errors of telemetry."""

from __future__ import annotations

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError


class AgentRunNotFoundError(NotFoundError):
    """No agent run has this id."""

    code = "agent_run_not_found"

    def __init__(self, agent_run_id: str) -> None:
        super().__init__(f"There is no agent run {agent_run_id!r}.")


class InvalidAgentRunError(InvalidInputError):
    """The posted run does not match the schema, or an id occurs twice; `problems` names the invalid fields.

    If a list (steps, calls or events) has several items that do not match the schema, only the first of them is named.
    """

    code = "invalid_agent_run"


class SourceConflictError(ConflictError):
    """The id belongs to a run already ingested from the other source (OTLP or JSON)."""

    code = "agent_run_source_conflict"
