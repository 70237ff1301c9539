"""`python -m relab.testbed.supervisor PLAN PIPE_FD GUARD_PID`: the process of a supervisor, started by its guard.

It writes the result of the start to the pipe, as one JSON object: `{"phase": "ready"}` or `{"phase": "failed", …}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from relab.core.errors import RelabError
from relab.core.logging import configure_logging, get_logger
from relab.testbed.errors import StartError
from relab.testbed.layout import Layout
from relab.testbed.supervisor import control
from relab.testbed.supervisor.plan import SupervisorPlan
from relab.testbed.supervisor.process import become_supervisor
from relab.testbed.supervisor.supervisor import Supervisor

_log = get_logger("relab.testbed.supervisor")


async def supervise(plan: SupervisorPlan, pipe: int) -> int:
    """Start the testbed and run it until SIGTERM or a shutdown request; return the exit code.

    Args:
        plan: the configuration of the testbed.
        pipe: the descriptor to which the result of the start is written.
    """
    layout = Layout.of(plan.home, plan.name)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    supervisor = Supervisor(plan, layout)
    with (
        control.listening(layout.control_socket) as at,
        control.serving(control.create_app(supervisor, stop.set), at) as end_serving,
    ):
        starting = asyncio.create_task(supervisor.start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        failure = await _outcome(starting)
        _report_start(pipe, failure)
        if failure is None:
            _log.info("ready", name=plan.name)
            await stopping
        stopping.cancel()
        await supervisor.shut_down()
        await end_serving()
    return 0 if failure is None else 1


async def _outcome(starting: asyncio.Task[None]) -> dict[str, Any] | None:
    """Return None if the start of the testbed succeeded; otherwise the reason for the failure, as JSON.

    If the start is still in progress, cancel it: this counts as a failure.
    """
    if not starting.done():
        starting.cancel()
    try:
        await starting
    except asyncio.CancelledError:
        return {"message": "The supervisor was stopped while it started.", "kind": "start"}
    except (RelabError, OSError) as error:
        failed = error if isinstance(error, RelabError) else StartError(f"{type(error).__name__}: {error}")
        found = {"message": failed.message, "remedy": failed.remedy, "kind": failed.code}
        if isinstance(failed, StartError):
            found |= {"component": failed.component, "log_tail": failed.log_tail}
        _log.error("start_failed", **found)
        return found
    return None


def _report_start(pipe: int, failure: dict[str, Any] | None) -> None:
    report = {"phase": "ready"} if failure is None else {"phase": "failed", **failure}
    # The process that reads the pipe may have ended.
    with contextlib.suppress(BrokenPipeError):
        os.write(pipe, json.dumps(report).encode() + b"\n")
    os.close(pipe)


def main() -> None:
    """Run one supervisor until it ends; the docstring of the module lists the command-line arguments."""
    become_supervisor(int(sys.argv[3]))
    configure_logging("INFO", json_lines=True)
    plan = SupervisorPlan.model_validate_json(Path(sys.argv[1]).read_bytes())
    pipe = int(sys.argv[2])
    os.set_inheritable(pipe, False)
    sys.path[:0] = [str(path) for path in plan.python_path]
    sys.exit(asyncio.run(supervise(plan, pipe)))


if __name__ == "__main__":
    main()
