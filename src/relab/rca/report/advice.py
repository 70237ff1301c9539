"""The fixed texts of a report, by category: title, checks and actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from relab.rca.models import ActionItem, Category

ActionType: TypeAlias = Literal["code_change", "config_change", "prompt_change", "monitoring", "process"]
Priority: TypeAlias = Literal["high", "medium", "low"]


@dataclass(frozen=True, slots=True)
class Advice:
    """Title, checks and mitigations of one category.

    Attributes:
        title: the category in words; "<title> Root Cause" names a hypothesis.
        cause: completes "Tool call failed due to ...".
        checks: how a person verifies the hypothesis.
        actions: mitigations, the most effective first.
    """

    title: str
    cause: str
    checks: tuple[str, ...]
    actions: tuple[ActionItem, ...]


def _action(type_: ActionType, priority: Priority, title: str, description: str) -> ActionItem:
    return ActionItem(type=type_, title=title, description=description, priority=priority)


ADVICE: dict[Category, Advice] = {
    Category.TOOL_SCHEMA_MISMATCH: Advice(
        "Tool Schema Mismatch",
        "schema validation error",
        (
            "Review tool call logs for detailed error traces",
            "Check external service status and API documentation",
        ),
        (
            _action(
                "code_change",
                "high",
                "Update tool schema validation",
                "Review and update tool argument schemas to match current API contract, "
                "and validate arguments against them before the call is made.",
            ),
            _action(
                "monitoring",
                "medium",
                "Watch for changes of tool contracts",
                "Compare the schema that the agent is given with the one that the tool publishes, and alert "
                "on a difference.",
            ),
        ),
    ),
    Category.RATE_LIMITED: Advice(
        "Rate Limited",
        "rate limiting",
        (
            "Compare the request rate at the time of the failure with the limit that the provider documents",
            "Check quota usage and other clients of the same key in the provider's console",
        ),
        (
            _action(
                "code_change",
                "high",
                "Back off and retry on rate limits",
                "Retry with exponential back-off and jitter, honour Retry-After, and cap the calls in flight "
                "per provider.",
            ),
            _action(
                "config_change",
                "medium",
                "Review rate limits and quotas",
                "Request a higher limit, spread the load over time, or cache answers that repeat.",
            ),
        ),
    ),
    Category.TOOL_PERMISSION: Advice(
        "Tool Permission",
        "missing permission",
        (
            "Repeat the call with the agent's credentials outside the agent",
            "Check that the credentials are valid and carry the scopes or roles that the tool requires",
        ),
        (
            _action(
                "config_change",
                "high",
                "Fix credentials and permissions of the tool",
                "Renew expired credentials, and grant the agent's identity the least permission that the call needs.",
            ),
            _action(
                "code_change",
                "medium",
                "Check access before the run starts",
                "Probe the tools that a run depends on at its start, so that it fails early and names what is missing.",
            ),
        ),
    ),
    Category.TIMEOUT: Advice(
        "Timeout",
        "a time-out",
        (
            "Compare the latency of the failed call with the tool's usual latency and with the configured time-out",
            "Check the load and the logs of the service that did not answer in time",
        ),
        (
            _action(
                "config_change",
                "high",
                "Align time-outs with measured latency",
                "Set each time-out above the tool's 99th percentile latency and below the deadline of the run.",
            ),
            _action(
                "code_change",
                "medium",
                "Degrade when a tool is slow",
                "Give slow calls a fallback, make them cancellable, and retry only what is idempotent.",
            ),
        ),
    ),
    Category.PLANNER_LOOP: Advice(
        "Planner Loop",
        "repetition without progress",
        (
            "Compare the arguments and results of the repeated calls in the timeline",
            "Check whether the planner is shown the results of earlier calls, and its own earlier steps",
        ),
        (
            _action(
                "code_change",
                "high",
                "Stop repetition without progress",
                "Detect an identical call with an identical result, and make the planner choose another "
                "action or give up.",
            ),
            _action(
                "prompt_change",
                "medium",
                "State when to stop",
                "Tell the agent what to do when a tool gives the same answer again, and how many attempts it has.",
            ),
        ),
    ),
    Category.RETRIEVAL_EMPTY: Advice(
        "Retrieval Empty",
        "an empty retrieval result",
        (
            "Run the same query against the index by hand",
            "Check that the index holds the expected documents, and that filters of the query don't exclude them",
        ),
        (
            _action(
                "code_change",
                "high",
                "Handle empty retrieval results",
                "Broaden or rephrase the query once when nothing is found, then say so instead of going on "
                "without facts.",
            ),
            _action(
                "monitoring",
                "medium",
                "Measure the share of empty retrievals",
                "Record the number of results per query, and alert when the share of empty ones rises.",
            ),
        ),
    ),
    Category.PROMPT_REGRESSION: Advice(
        "Prompt Regression",
        "a change of the agent's version",
        (
            "Run both versions on the same tasks and compare their outcomes",
            "Compare prompt, model and tool definitions of the two versions",
        ),
        (
            _action(
                "prompt_change",
                "high",
                "Return to the version before",
                "Roll back to the version that did better until the difference is understood.",
            ),
            _action(
                "process",
                "medium",
                "Test versions before they are rolled out",
                "Run each new version on a fixed set of tasks, and compare success rate and steps with the "
                "version before.",
            ),
        ),
    ),
    Category.UNKNOWN: Advice(
        "Unknown",
        "an error of no known kind",
        (
            "Read the quoted error together with the log of the component that reported it",
            "Repeat the step with the same input and see whether it fails again",
        ),
        (
            _action(
                "process",
                "high",
                "Investigate the failed step",
                "Reproduce the step at which the run broke, and find what the quoted error stands for.",
            ),
            _action(
                "code_change",
                "medium",
                "Give the error a class of its own",
                "Raise a specific error class or code for this failure, so that the next one is recognised.",
            ),
        ),
    ),
}

COLLECT_DATA = (
    _action(
        "monitoring",
        "high",
        "Enable detailed tracing",
        "Add structured logging and tracing to capture more diagnostic information.",
    ),
    _action(
        "code_change",
        "medium",
        "Add structured error codes",
        "Implement error code taxonomy to enable better classification in future RCAs.",
    ),
)
"""Actions for a run whose telemetry is not sufficient for a conclusion (verbatim from the AgentOps contract)."""

KEEP_WATCHING = (
    _action(
        "monitoring",
        "low",
        "Keep monitoring",
        "No action is needed for this run; watch the success rate and the recovered errors of the agent.",
    ),
)

UNKNOWN_CAUSES = {
    "upstream_error": "an error of the service behind it",
    "not_found": "something that does not exist",
    "context_length": "more input than the model's context holds",
    "content_filter": "a content policy",
    "connection_error": "a failed connection",
    "proxy_authentication": "a proxy that requires authentication",
    "too_large": "a request that is too large",
    "guardrail_event": "a guardrail",
}
"""Completes "Tool call failed due to ..." by detail, for known errors of the category UNKNOWN."""
