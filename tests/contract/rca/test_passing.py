"""The report of a failed run: its comparison with successful runs of the task, from the runs to the note."""

from __future__ import annotations

from relab.bootstrap import Services
from relab.telemetry.reading import check_agent_run
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
    assert "Beside runs that succeeded" in services.rca.notes.markdown(receipt.rca_run_id)


def test_run_without_passing_runs_has_no_comparison(services: Services) -> None:
    services.telemetry.ingest(check_agent_run(failed_run("failed", task_id="t")))
    receipt = services.rca.request("failed")
    services.rca.analyze(receipt.rca_run_id)

    report = services.rca.get(receipt.rca_run_id).report
    assert report is not None
    assert report.passing is None
