"""The actions of reports that name no cause; those of a cause are in the descriptor of its category."""

from __future__ import annotations

from relab.rca.detectors import action

COLLECT_DATA = (
    action(
        "monitoring",
        "high",
        "Enable detailed tracing",
        "Add structured logging and tracing to capture more diagnostic information.",
    ),
    action(
        "code_change",
        "medium",
        "Add structured error codes",
        "Implement error code taxonomy to enable better classification in future RCAs.",
    ),
)
"""Actions for a run whose telemetry is not sufficient for a conclusion (verbatim from the AgentOps contract)."""

KEEP_WATCHING = (
    action(
        "monitoring",
        "low",
        "Keep monitoring",
        "No action is needed for this run; watch the success rate and the recovered errors of the agent.",
    ),
)
