"""The report of a failed run: its comparison with successful runs of the task, from the runs to the note."""

from __future__ import annotations

from typing import Any

import pytest

from relab.bootstrap import Services
from relab.rca.models import Category, Report
from relab.telemetry.ingest.reading import check_agent_run
from support.telemetry.runs import failed_run, minimal_run, time_text, tool_call


def test_report_compares_the_run_with_passing_runs_of_its_task(services: Services) -> None:
    check = tool_call("check", tool_name="get_reservation", started_at=time_text(1))
    cancel = tool_call("cancel", tool_name="cancel", started_at=time_text(2))
    for number in range(5):
        body = minimal_run(f"p{number}", task_id="t", tool_calls=[check, cancel])
        services.telemetry.ingest(check_agent_run(body))
    services.telemetry.ingest(check_agent_run(failed_run("failed", task_id="t", tool_calls=[cancel])))
    receipt = services.rca.request("failed")
    services.rca.analyze(receipt.rca_run_id)

    report = services.rca.get(receipt.rca_run_id).report
    assert report is not None
    assert report.passing is not None
    assert report.passing.same_task
    assert len(report.passing.run_ids) == 5
    said = "5 passing runs of this task called `get_reservation` before `cancel`; this one did not."
    assert report.passing.differences[0].sentence == said
    note = services.rca.notes.of(receipt.rca_run_id)
    assert note.passing[0] == said
    assert "Compared with runs that succeeded" in services.rca.notes.markdown(receipt.rca_run_id)


def test_run_without_passing_runs_has_no_comparison(services: Services) -> None:
    services.telemetry.ingest(check_agent_run(failed_run("failed", task_id="t")))
    receipt = services.rca.request("failed")
    services.rca.analyze(receipt.rca_run_id)

    report = services.rca.get(receipt.rca_run_id).report
    assert report is not None
    assert report.passing is None


def analyzed(services: Services, run_id: str) -> Report:
    receipt = services.rca.request(run_id)
    services.rca.analyze(receipt.rca_run_id)
    report = services.rca.get(receipt.rca_run_id).report
    assert report is not None
    return report


def ingest_variants(services: Services, **of_all: Any) -> None:
    """Store ten runs of `control` that succeed, and ten of `treatment` that fail, side by side, each with its own task."""
    for number in range(10):
        for variant in ("control", "treatment"):
            failed = {"status": "failure", "error_type": "WrongAnswer"} if variant == "treatment" else {}
            body = minimal_run(
                f"run_1.{variant}_{number}",
                agent_version=variant,
                started_at=time_text(number * 10 + (variant == "treatment")),
                task_id=f"{variant}-{number}",
                **failed,
                **of_all,
            )
            services.telemetry.ingest(check_agent_run(body))


def test_variant_of_a_trial_is_not_compared_with_another_variant_as_its_previous_version(services: Services) -> None:
    ingest_variants(services, environment="experiment", experiment={"trial_id": "trial_1", "variant_id": "v"})

    report = analyzed(services, "run_1.treatment_9")

    assert report.category is not Category.PROMPT_REGRESSION
    assert "previous version" not in str(report.model_dump(mode="json"))


def test_version_outside_of_experiments_is_compared_with_its_previous_version(services: Services) -> None:
    ingest_variants(services, environment="prod")

    assert analyzed(services, "run_1.treatment_9").category is Category.PROMPT_REGRESSION


@pytest.mark.parametrize(("environment", "kind"), [("experiment", "variant"), ("prod", "version")])
def test_runs_of_other_tasks_are_named_by_what_they_share(services: Services, environment: str, kind: str) -> None:
    shared = {"agent_version": "a", "environment": environment, "experiment": {"variant_id": "a"}}
    check = tool_call("check", tool_name="get_reservation", started_at=time_text(1))
    for number in range(5):
        body = minimal_run(f"p{number}", task_id=f"t{number}", tool_calls=[check], **shared)
        services.telemetry.ingest(check_agent_run(body))
    failed = failed_run("failed", task_id="t", tool_calls=[tool_call("cancel")]) | shared
    services.telemetry.ingest(check_agent_run(failed))

    report = analyzed(services, "failed")

    assert report.passing is not None
    assert report.passing.differences[0].sentence.startswith(f"5 passing runs of this {kind} called")
