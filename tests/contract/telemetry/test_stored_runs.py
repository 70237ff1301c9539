"""Which of some runs are stored, for a sender that must send again what was lost."""

from __future__ import annotations

from relab.bootstrap import Services
from relab.core.clock import parse_time
from relab.telemetry.models import AgentRun
from support.telemetry.runs import minimal_run


def test_starts_are_those_of_the_stored_runs_alone(services: Services) -> None:
    started_at = "2024-01-15T10:30:00.000250Z"
    for name in ("one", "two"):
        services.telemetry.ingest(AgentRun.model_validate(minimal_run(run_id=name, started_at=started_at)))

    asked = ["one", "lost", *(f"other-{number}" for number in range(2_000))]

    assert services.telemetry.stored.starts(asked) == {"one": parse_time(started_at)}
