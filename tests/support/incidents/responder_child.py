"""A responder in a separate process that kills itself: `python -m support.incidents.responder_child`.

Arguments: home, target, action server, token, and when to die: the name of a node (when the node begins), `asked`
(the action is stored but not requested yet), `done` (it was executed and its result is not stored yet) or `never`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from relab.incidents.actions.client import ActionsClient
from relab.incidents.response import graph as graphs
from support.incidents.responders import acting, responding


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(moment: str) -> None:
    """Make this process kill itself at a moment."""
    if moment in {"asked", "done"}:
        execute = ActionsClient.execute

        async def dying(self: ActionsClient, *args: Any, **more: Any) -> Any:
            if moment == "done":
                await execute(self, *args, **more)
            die()

        ActionsClient.execute = dying  # type: ignore[method-assign]
        return
    for kind in (graphs.AssessmentNodes, graphs.PlanningNodes, graphs.ExecutionNodes, graphs.ClosingNodes):
        if hasattr(kind, moment):
            setattr(kind, moment, die)


async def go(home: Path, target: str, actions: str, token: str) -> None:
    async with responding(home, target, actions, token, policy=acting()) as running:
        print("watching", flush=True)
        await running.until(lambda: running.world.watch.baseline.is_learnt, what="a baseline")
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    _, _home, _target, _actions, _token, _moment = sys.argv
    arrange(_moment)
    asyncio.run(go(Path(_home), _target, _actions, _token))
