"""Define the metrics of builds that `/metrics` exports, and count ended builds. The counts are in the database."""

from __future__ import annotations

from typing import Final

from relab.builds.models import Build, BuildStatus
from relab.storage import counters
from relab.storage.counters import StoredCounter, StoredHistogram, StoredMetric
from relab.storage.session import DatabaseSession

MAX_PROJECTS: Final = 50
"""The number of projects with their own series; later ones share `OTHER_PROJECTS`."""
OTHER_PROJECTS: Final = "(other)"
_PROJECTS: Final = "build_projects"
_MIB: Final = 1_048_576

BUILDS: Final = StoredCounter(
    "relab_builds", "Builds that have ended, by project, status and kind of failure.", ("project", "status", "failure")
)
DURATION: Final = StoredHistogram(
    "relab_build_duration_seconds",
    "Duration of builds that have ended, by project and status.",
    ("project", "status"),
    (1, 5, 15, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200),
)
PEAK_MEMORY: Final = StoredHistogram(
    "relab_build_peak_memory_bytes",
    "Highest measured memory of builds that have ended, by project and status.",
    ("project", "status"),
    tuple(float(mib * _MIB) for mib in (64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384)),
)
DECISIONS: Final = StoredCounter(
    "relab_build_decisions", "Decisions of the optimizer of builds, by policy and action.", ("policy", "action_id")
)
REWARD: Final = StoredHistogram(
    "relab_build_decision_reward",
    "Rewards of decisions whose outcome is known, by policy; 0 is a failed build.",
    ("policy",),
    (0, 0.25, 0.5, 0.75, 1),
)
SUGGESTIONS: Final = StoredCounter(
    "relab_build_suggestions",
    "Suggestions for failed builds, by the category of the known failure; empty if the failure is not known.",
    ("category",),
)
METRICS: Final[tuple[StoredMetric, ...]] = (BUILDS, DURATION, PEAK_MEMORY, DECISIONS, REWARD, SUGGESTIONS)
"""All build metrics; `/metrics` exports each of them with its description."""


def count_build(session: DatabaseSession, build: Build) -> None:
    """Add an ended build to the metrics of builds in the database. Do nothing for a running build.

    Call this in the transaction that stores the end of the build.
    """
    result = build.result
    if result.status is BuildStatus.RUNNING:
        return
    project = counters.bounded_label(session, _PROJECTS, build.project, limit=MAX_PROJECTS, other=OTHER_PROJECTS)
    status = result.status.value
    failure = "" if result.failure is None else result.failure.value
    increments = [BUILDS.one(project, status, failure)]
    if result.duration_s:
        increments.append(DURATION.one(result.duration_s, project, status))
    if result.peak_memory_mb:
        increments.append(PEAK_MEMORY.one(result.peak_memory_mb * _MIB, project, status))
    counters.add(session, increments)
