"""`lab load`: send requests to a service at planned times, and report their outcomes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relab.cli.output import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    JsonOption,
    check_writable,
    plain,
    print_json,
    print_table,
    write_text,
)
from relab.cli.stopping import stoppable
from relab.core.errors import InvalidInputError

if TYPE_CHECKING:
    from relab.load.models import LatencySummary, LoadPlan, LoadResult, Mix, OnProgress, Progress

_LINE_EVERY_S = 5.0
_DEFAULT_RATE_PER_S = 100.0
_DEFAULT_DURATION_S = 10.0


def load_command(
    url: Annotated[str, typer.Argument(help="The service; without --mix and --requests, the single URL to fetch.")],
    rate: Annotated[float | None, typer.Option(help="Requests per second (default 100).")] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds of load, after the warm-up (default 10).")] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(help="RATE:SECONDS or FROM-TO:SECONDS, instead of --rate and --duration; may be repeated."),
    ] = None,
    arrivals: Annotated[str, typer.Option(help="constant | poisson")] = "constant",
    warmup: Annotated[float, typer.Option(help="Seconds of load before the measurement.")] = 0.0,
    mix: Annotated[str | None, typer.Option(help="A mix for the testbed's shop: browse | order | search.")] = None,
    requests: Annotated[Path | None, typer.Option(help="A mix from a file, YAML or JSON.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="'Name: value' for every request; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds send equal requests at equal intervals.")] = 1,
    timeout: Annotated[float, typer.Option(help="Time-out of a request in seconds.")] = 10.0,
    retries: Annotated[int, typer.Option(help="Number of retries of a failed request.")] = 0,
    retry_delay: Annotated[float, typer.Option(help="Seconds before each retry.")] = 0.0,
    max_in_flight: Annotated[int, typer.Option(help="Limit of unanswered requests; more are dropped.")] = 1_000,
    connections: Annotated[int | None, typer.Option(help="Limit of connections (default: --max-in-flight).")] = None,
    keep_alive: Annotated[bool, typer.Option(help="Reuse connections.")] = True,
    window: Annotated[float, typer.Option(help="Length of one window of the result in seconds.")] = 1.0,
    hdr: Annotated[Path | None, typer.Option(help="Write an HdrHistogram log to this file.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write plan and result to this file, as JSON.")] = None,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Allow a service on another machine.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    json: JsonOption = False,
) -> int:
    """Send load to a service in an open loop: each request is sent at its planned time, even if earlier ones are slow.

    Exit code 1 if no request was answered, 69 if no server accepts connections at the start.
    """
    from relab.load.service import check_target, make_plan, run_load

    base, requested = _requests(url, mix, requests)
    plan = make_plan(
        url=base,
        mix=requested,
        stages=_stages(rate, duration, stage),
        arrivals=arrivals,
        seed=seed,
        warmup_s=warmup,
        window_s=window,
        timeout_s=timeout,
        max_in_flight=max_in_flight,
        connections=connections,
        keep_alive=keep_alive,
        retries=retries,
        retry_delay_s=retry_delay,
        headers=_headers(header or []),
        allow_remote=allow_remote,
    )
    files = [path for path in (hdr, output) if path is not None]
    check_writable(*files)
    check_target(plan)
    with stoppable() as stop, _live(quiet=quiet or json) as progress:
        result = run_load(plan, stop=stop, on_progress=progress)
    _write(plan, result, hdr, output)
    _show(plan, result, files, json=json)
    return _exit_code(result)


def _exit_code(result: LoadResult) -> int:
    if result.stopped:
        return EXIT_INTERRUPTED
    return 0 if result.counts.completed or not result.counts.offered else EXIT_FAILED


def _requests(url: str, name: str | None, path: Path | None) -> tuple[str, Mix]:
    from relab.load.service import built_in_mix, read_mix, single_request

    if name is not None and path is not None:
        raise InvalidInputError("--mix and --requests exclude each other.")
    if name is not None:
        return url, built_in_mix(name)
    return (url, read_mix(path)) if path is not None else single_request(url)


def _stages(rate: float | None, duration: float | None, stages: Sequence[str] | None) -> list[dict[str, float]]:

    if not stages:
        return [
            {
                "duration_s": _DEFAULT_DURATION_S if duration is None else duration,
                "rate_per_s": _DEFAULT_RATE_PER_S if rate is None else rate,
            }
        ]
    if rate is not None or duration is not None:
        raise InvalidInputError("--stage replaces --rate and --duration; leave them out.")
    return [_stage(text) for text in stages]


def _stage(text: str) -> dict[str, float]:

    rates, _, seconds = text.partition(":")
    first, ramp, last = rates.partition("-")
    try:
        stage = {"rate_per_s": float(first), "duration_s": float(seconds)}
        return {**stage, "to_rate_per_s": float(last)} if ramp else stage
    except ValueError as error:
        raise InvalidInputError(f"--stage must be RATE:SECONDS or FROM-TO:SECONDS, not {text!r}.") from error


def _headers(lines: Sequence[str]) -> dict[str, str]:

    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or any(ord(char) < 32 for char in line):
            # The line may contain a secret, so the message omits it.
            raise InvalidInputError("--header must be 'Name: value' on one line.")
        headers[name.strip()] = value.strip()
    return headers


def _write(plan: LoadPlan, result: LoadResult, hdr: Path | None, output: Path | None) -> None:
    from relab.load.service import hdr_text

    if hdr is not None:
        write_text(hdr, hdr_text(result), overwrite=True)
    if output is not None:
        import json

        write_text(output, json.dumps(_as_json(plan, result), indent=2) + "\n", overwrite=True)


def _as_json(plan: LoadPlan, result: LoadResult) -> dict[str, Any]:
    from relab.load.models import load_plan_json

    return {"plan": load_plan_json(plan), "result": result.model_dump(mode="json")}


def _show(plan: LoadPlan, result: LoadResult, files: Sequence[Path], *, json: bool) -> None:
    if json:
        print_json("load", **_as_json(plan, result))
        return
    counts, generator = result.counts, result.generator
    print(f"{plain(plan.url)}: {counts.offered:,} requests were due in {result.planned_s:g} s ({plan.arrivals})")
    sends = f"{counts.sent:,} sent ({counts.retries:,} retries), {counts.dropped:,} dropped"
    print(
        f"requests: {sends}, {counts.completed:,} completed, {counts.failed:,} failed, {counts.timed_out:,} timed out"
    )
    for title, found in (("statuses", counts.statuses), ("errors", counts.errors)):
        if found:
            print(f"{title}: {', '.join(f'{plain(name)} {number:,}' for name, number in found.items())}")
    rows = [_row(route.name, route.counts.good, route.counts.bad, route.latency) for route in result.routes]
    if len(rows) > 1:
        rows.append(_row("all", counts.good, counts.bad, result.latency))
    print_table("Latency in ms, from the time when each request was due", _COLUMNS, rows)
    print(
        f"load generator: {_number(generator.rate_per_s)} requests/s, {_number(generator.rate_error_pct)} % off the plan, "
        f"P99 delay {_number(generator.lag_p99_ms)} ms, {generator.cpu_share:.2f} of a CPU core"
    )
    for path in files:
        print(f"wrote: {plain(path)}")
    for problem in result.problems:
        print(f"lab: warning: {plain(problem)}", file=sys.stderr)


_COLUMNS = ("request", "good", "bad", "mean", "P50", "P90", "P95", "P99", "P99.9", "max")


def _row(name: str, good: int, bad: int, latency: LatencySummary) -> list[object]:
    figures = (
        latency.mean_ms,
        latency.p50_ms,
        latency.p90_ms,
        latency.p95_ms,
        latency.p99_ms,
        latency.p999_ms,
        latency.max_ms,
    )
    return [name, f"{good:,}", f"{bad:,}", *map(_number, figures)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


@contextmanager
def _live(*, quiet: bool) -> Iterator[OnProgress | None]:
    """Yield a function that shows the progress on stderr: a bar in a terminal, otherwise a line every few seconds.

    If `quiet`, yield None.
    """
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _Lines()


@contextmanager
def _bar() -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.fields[state]}"), BarColumn(bar_width=20), TextColumn("{task.fields[figures]}"))
    # The sender's own thread draws the bar once per window: a separate thread would delay sends at any time.
    with Bar(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("load", total=1.0, state="warm-up", figures="")

        def show(progress: Progress) -> None:
            share = progress.elapsed_s / progress.duration_s
            bar.update(task, completed=min(share, 1.0), state=_state(progress), figures=_line(progress))
            bar.refresh()

        yield show


class _Lines:
    def __init__(self) -> None:
        self._next = time.monotonic() + _LINE_EVERY_S

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_EVERY_S
            print(f"{_state(progress)}: {_line(progress)}", file=sys.stderr)


def _state(progress: Progress) -> str:
    if progress.warming_up:
        return "warm-up"
    return f"{min(progress.elapsed_s, progress.duration_s):.0f} of {progress.duration_s:g} s"


def _line(progress: Progress) -> str:
    counts = progress.counts
    dropped = f"; {counts.dropped:,} dropped" if counts.dropped else ""
    return (
        f"{progress.ended_per_s:,.0f}/s; P50 {_number(progress.p50_ms)}, P99 {_number(progress.p99_ms)} ms; "
        f"{counts.bad:,} bad; {progress.in_flight:,} in flight{dropped}"
    )
