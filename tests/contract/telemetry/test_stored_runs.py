"""Which of some runs are stored, for a sender that must send again what was lost."""

from __future__ import annotations

import pytest

from relab.bootstrap import Services
from relab.core.clock import parse_time
from relab.telemetry import trial_runs
from relab.telemetry.errors import AgentRunNotFoundError
from relab.telemetry.models import AgentRun
from support.telemetry.runs import minimal_run


def test_starts_are_those_of_the_stored_runs_alone(services: Services) -> None:
    started_at = "2024-01-15T10:30:00.000250Z"
    for name in ("one", "two"):
        services.telemetry.ingest(AgentRun.model_validate(minimal_run(run_id=name, started_at=started_at)))

    asked = ["one", "lost", *(f"other-{number}" for number in range(2_000))]

    assert services.telemetry.stored.starts(asked) == {"one": parse_time(started_at)}


def test_run_of_a_trial_that_a_person_deleted_is_known_until_it_has_another_start(services: Services) -> None:
    telemetry, first, second = services.telemetry, "2024-01-15T10:30:00.000250Z", "2024-01-16T10:30:00Z"

    def store(started_at: str) -> None:
        run = minimal_run(run_id="trial", environment=trial_runs.ENVIRONMENT, started_at=started_at)
        telemetry.ingest(AgentRun.model_validate(run))

    for started_at in (first, second):
        store(started_at)
        assert telemetry.stored.starts(["trial"]) == {"trial": parse_time(started_at)}
        telemetry.delete("trial")
        assert telemetry.stored.starts(["trial"]) == {"trial": parse_time(started_at)}
    with pytest.raises(AgentRunNotFoundError):
        telemetry.delete("trial")


def test_deleted_run_of_no_trial_and_pruned_run_of_a_trial_are_unknown(services: Services) -> None:
    telemetry = services.telemetry
    telemetry.ingest(AgentRun.model_validate(minimal_run(run_id="other", environment="production")))
    telemetry.ingest(AgentRun.model_validate(minimal_run(run_id="trial", environment=trial_runs.ENVIRONMENT)))

    telemetry.delete("other")
    assert sum(counts.runs for counts in telemetry.prune(services.clock.now_us())) == 1

    assert telemetry.stored.starts(["other", "trial"]) == {}
