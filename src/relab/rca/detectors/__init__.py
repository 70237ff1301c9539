"""Detectors: one module per failure category, with the category's name.

Input: a `RunView` (an indexed run). Output: `DetectedProblem`s, each with its category, its position in the run and
quotations that show it. A detector is a pure function, and it does not see the problems that other detectors find. Each
module also has the `CategoryDescriptor` of its category. `attribution/` reads from it how to rank the category,
`report/` reads the texts.
"""

from relab.rca.detectors.descriptor import CategoryDescriptor, action
from relab.rca.detectors.explanation import Explanation
from relab.rca.detectors.planner_loop import RETRIES
from relab.rca.detectors.problems import DetectedProblem, raised, strength
from relab.rca.detectors.registry import DESCRIPTORS, find_problems
from relab.rca.detectors.tool_schema_mismatch import UNKNOWN_TOOL
from relab.rca.detectors.unknown import UNCLASSIFIED, VAGUE_DETAILS

__all__ = [
    "DESCRIPTORS",
    "RETRIES",
    "UNCLASSIFIED",
    "UNKNOWN_TOOL",
    "VAGUE_DETAILS",
    "CategoryDescriptor",
    "DetectedProblem",
    "Explanation",
    "action",
    "find_problems",
    "raised",
    "strength",
]
