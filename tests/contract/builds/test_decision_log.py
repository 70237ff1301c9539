"""Evaluation of policies on the log of decisions: a short log is rejected, and the log is read only once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import event

from relab.bootstrap import Services
from relab.builds.errors import DecisionLogError
from relab.builds.models import BuildStatus
from relab.builds.service import BuildSymptoms, DecisionOutcome


def log_decisions(services: Services, count: int) -> None:
    """Log decisions for the project `engine`, with outcomes."""
    symptoms = BuildSymptoms(project="engine", status=BuildStatus.FAILED, duration=2.0, error="Out of memory")
    for number in range(count):
        chosen = services.builds.decisions.best_action(symptoms)
        status = BuildStatus.SUCCESS if number % 2 else BuildStatus.FAILED
        services.builds.decisions.report_outcome(chosen.decision_id, DecisionOutcome(status=status, duration=2.0))


def test_short_log_is_rejected_with_the_counts_of_the_whole_log(make_services: Callable[..., Services]) -> None:
    services = make_services()
    log_decisions(services, 59)

    with pytest.raises(DecisionLogError, match="has 59 decisions with an outcome; an evaluation needs at least 60"):
        services.builds.decisions.evaluate_policies("engine")


def test_evaluation_of_all_policies_reads_the_log_once(make_services: Callable[..., Services]) -> None:
    services = make_services()
    log_decisions(services, 60)
    read: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        read.append(statement)

    event.listen(services.database.engine, "before_cursor_execute", record)
    found = services.builds.decisions.evaluate_policies("engine")

    assert {value.count for value in found.values()} == {30}
    assert len([statement for statement in read if "FROM build_decisions" in statement]) == 1
