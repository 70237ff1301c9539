"""`lab jobs`: list the queued jobs, and retry or drop jobs that failed permanently."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from relab.cli.context import open_services
from relab.cli.output import JsonOption, print_json, print_table

app = typer.Typer(help="List queued jobs; retry or drop parked jobs.", no_args_is_help=True)

JobIds = Annotated[list[str], typer.Argument(help="Job ids.")]


@app.command("list")
def list_jobs(
    status: Annotated[
        Literal["pending", "running", "done", "parked"] | None, typer.Option(help="Only jobs with this status.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    from relab.core.clock import format_time
    from relab.jobs.models import JobStatus

    with open_services() as services:
        jobs = services.queue.list(status=JobStatus(status) if status else None, limit=limit)
        counts = services.queue.counts()
    if as_json:
        items = [job.model_dump(mode="json") for job in jobs]
        print_json("jobs list", counts=counts.model_dump(), items=items)
        return
    title = f"Jobs: {counts.pending} pending, {counts.running} running, {counts.done} done, {counts.parked} parked"
    rows = (
        (
            job.job_id,
            job.name,
            job.lane,
            job.status,
            f"{job.attempts}/{job.max_attempts}",
            format_time(job.created_at),
            job.error,
        )
        for job in jobs
    )
    print_table(title, ("job", "name", "lane", "status", "attempts", "created", "error"), rows)


@app.command()
def retry(job_ids: JobIds, as_json: JsonOption = False) -> None:
    """Queue parked jobs (they failed permanently) again. Their attempts are counted from 0 again."""
    with open_services() as services:
        for job_id in job_ids:
            services.queue.retry(job_id)
    if as_json:
        print_json("jobs retry", job_ids=job_ids)
    else:
        print(f"{len(job_ids)} job(s) queued again.")


@app.command()
def drop(job_ids: JobIds, as_json: JsonOption = False) -> None:
    """Delete jobs. A running job cannot be deleted; at the first such job, the command ends with an error."""
    with open_services() as services:
        for job_id in job_ids:
            services.drop_job(job_id)
    if as_json:
        print_json("jobs drop", job_ids=job_ids)
    else:
        print(f"{len(job_ids)} job(s) dropped.")
