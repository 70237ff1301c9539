"""`python -m relab.testbed.jobs`: run the report job of a testbed, which creates the same report again and again."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import SystemClock, format_time
from relab.testbed.jobs.report import Line, read_products, read_sales, report, write


class ReportJobParameters(BaseModel):
    """The parameters of the report job, a batch job that runs beside the target.

    Attributes:
        processes: number of processes; each reports on an equal part of the shop's products.
        nice: nice value of the processes, from 0 (usual priority) to 19 (lowest).
        seconds: how long the job works, in seconds; None to work without an end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    processes: int = Field(1, ge=1, le=256)
    nice: int = Field(10, ge=0, le=19)
    seconds: float | None = Field(None, gt=0)


def main() -> int:
    """Create reports until the job's duration has passed; then do nothing until a signal ends the process.

    The duration is `seconds` in the job's parameter file; without it, the reports never end. Return the exit code.
    """
    parser = argparse.ArgumentParser(prog="report")
    parser.add_argument("--settings", type=Path, required=True, help="The shop's settings, JSON.")
    parser.add_argument("--order", type=Path, required=True, help="The parameters of the job, JSON.")
    args = parser.parse_args()
    settings: dict[str, Any] = json.loads(args.settings.read_bytes())
    order = (
        ReportJobParameters.model_validate_json(args.order.read_bytes())
        if args.order.exists()
        else ReportJobParameters()
    )
    _log("job_started", processes=order.processes, priority=order.nice, seconds=order.seconds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.nice(order.nice)
    until = None if order.seconds is None else time.monotonic() + order.seconds
    # Fork the processes, so that the products are read only once.
    context = multiprocessing.get_context("fork")
    products_path, data_dir = Path(settings["search"]["products_path"]), Path(settings["data_dir"])
    products = read_products(products_path)

    def work(part: int) -> None:
        for number in count(1):
            lines: list[Line] = []
            for line in report(products, read_sales(data_dir), part=part, parts=order.processes):
                lines.append(line)
                if until is not None and time.monotonic() >= until:
                    return
            try:
                write(lines, data_dir / f"alike-{part}.jsonl")
            except OSError as error:
                _log("report_not_written", part=part, error=error.strerror)
            _log("report_made", part=part, number=number)

    parts = [context.Process(target=work, args=(part,), daemon=True) for part in range(order.processes)]
    for process in parts:
        process.start()
    for process in parts:
        process.join()
    _log("job_done")
    # The supervisor would restart a process that ends, so wait idle instead.
    signal.pause()
    return 0


def _log(event: str, **fields: Any) -> None:
    line = {"time": format_time(SystemClock().now_us()), "event": event, **fields}
    print(json.dumps(line), flush=True)  # noqa: T201 the component's log


if __name__ == "__main__":
    sys.exit(main())
