"""Kinds of problems of steps: typical mistakes of agents that telemetry does not report as errors.

Each kind belongs to a failure category. A finding has the kind in its field `detail`. For each kind, this module has
the names that published data sets use for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from relab.rca.models import Category


@dataclass(frozen=True, slots=True)
class Detail:
    """One kind of problem, such as an invented result of a tool.

    Attributes:
        category: the failure category of the kind.
        meaning: what went wrong, as a sentence without its full stop.
        trail: the name of this kind in the data set TRAIL; empty if TRAIL has no such kind.
        mast: the failure mode of MAST (arXiv 2503.13657) with the same definition; empty if MAST has no such mode.
    """

    category: Category
    meaning: str
    trail: str
    mast: str = ""


DETAILS: Final[Mapping[str, Detail]] = MappingProxyType(
    {
        "format_broken": Detail(
            Category.UNKNOWN,
            "the output breaks the format that the instruction asks for",
            "Formatting Errors",
            "FM-1.1",
        ),
        "ignored_instruction": Detail(
            Category.UNKNOWN, "the step does not do what its instruction says", "Instruction Non-compliance", "FM-1.1"
        ),
        "goal_lost": Detail(Category.UNKNOWN, "the step leaves the goal of the task", "Goal Deviation", "FM-2.3"),
        "bad_plan": Detail(
            Category.UNKNOWN,
            "the plan or the order of the steps does not lead to the goal",
            "Task Orchestration",
        ),
        "wrong_tool": Detail(
            Category.UNKNOWN, "the step uses another tool than the one it needs", "Tool Selection Errors"
        ),
        "invented_result": Detail(Category.UNKNOWN, "the step states a result that no tool gave", "Tool-related"),
        "invented_fact": Detail(
            Category.UNKNOWN, "the step states facts that nothing in the run supports", "Language-only"
        ),
        "context_lost": Detail(
            Category.UNKNOWN, "the step forgets what the run knew before", "Context Handling Failures", "FM-1.4"
        ),
        "wrong_problem": Detail(
            Category.UNKNOWN,
            "the step misunderstands what is to be solved",
            "Incorrect Problem Identification",
        ),
        "result_misread": Detail(
            Category.UNKNOWN, "the step misreads the result of a tool", "Tool Output Misinterpretation"
        ),
        "wrong_answer_accepted": Detail(Category.UNKNOWN, "a wrong result is accepted without a check", "", "FM-3.2"),
        "poor_retrieval": Detail(
            Category.RETRIEVAL_EMPTY, "the search brings nothing that the task needs", "Poor Information Retrieval"
        ),
        "resource_abuse": Detail(
            Category.PLANNER_LOOP, "the step repeats calls or uses more than it needs", "Resource Abuse", "FM-1.3"
        ),
        "environment_setup": Detail(
            Category.UNKNOWN, "the environment lacks what the step needs", "Environment Setup Errors"
        ),
        "tool_definition": Detail(
            Category.TOOL_SCHEMA_MISMATCH, "the tool is described wrongly", "Tool Definition Issues"
        ),
        "authentication": Detail(Category.TOOL_PERMISSION, "a right or a key is missing", "Authentication Errors"),
        "rate_limit": Detail(Category.RATE_LIMITED, "a service limits the calls", "Rate Limiting"),
        "service_error": Detail(Category.UNKNOWN, "a service fails", "Service Errors"),
        "resource_missing": Detail(Category.UNKNOWN, "a file or page does not exist", "Resource Not Found"),
        "resource_exhausted": Detail(
            Category.UNKNOWN, "memory or another resource is exhausted", "Resource Exhaustion"
        ),
        "time_limit": Detail(Category.TIMEOUT, "the step takes longer than it may", "Timeout Issues"),
    }
)
