"""`python -m relab.testbed.scoring.baselines.restart_only`: a responder that restarts, like a liveness probe.

While the target is unhealthy, the responder restarts the target, then the database, then the cache, and then begins
again with the target, until the target is healthy. It gives no diagnosis.
"""

from __future__ import annotations

import os
import time
from itertools import cycle
from typing import Final

import httpx

from relab.testbed.scoring.baselines.status_page import State, status_page

UNHEALTHY_POLLS: Final = 3
"""Number of consecutive failures before a restart, like the usual failure threshold of a liveness probe."""
COOLDOWN_S: Final = 35.0
"""The target's metrics cover the last 30 seconds, so an earlier poll cannot show whether a restart has helped."""
RESTARTS: Final = ("restart-target", "restart-database", "restart-cache")


class RestartLoop:
    """Polls the target's health, and requests restarts after three consecutive unhealthy polls.

    Args:
        target: an HTTP client of the target.
        actions: an HTTP client of the action server, with a token.
        state: the status that this responder reports; each poll updates it.
    """

    def __init__(self, target: httpx.Client, actions: httpx.Client, state: State) -> None:
        self._target = target
        self._actions = actions
        self._state = state
        self._next = cycle(RESTARTS)
        self._unhealthy = 0
        self._incidents = 0
        self._quiet_until_s = 0.0

    def poll(self, now_s: float) -> None:
        """Poll the target once; restart a component if the last `UNHEALTHY_POLLS` polls were unhealthy.

        There are at least 35 s between two restarts. Each restart is for the next component in `RESTARTS`. After a
        healthy poll, the order begins again with the first component.

        Args:
            now_s: the current time of `time.monotonic`, in seconds.
        """
        self._state.polls += 1
        if self._is_healthy():
            self._unhealthy, self._state.incident = 0, None
            self._next = cycle(RESTARTS)
            return
        self._unhealthy += 1
        if self._unhealthy < UNHEALTHY_POLLS:
            return
        if self._state.incident is None:
            self._incidents += 1
            self._state.incident = {"id": f"unhealthy-{self._incidents}", "phase": "execute"}
        if now_s >= self._quiet_until_s:
            self._restart(next(self._next))
            self._quiet_until_s = now_s + COOLDOWN_S

    def _is_healthy(self) -> bool:
        try:
            answer = self._target.get("/api/v1/health")
            return bool(answer.status_code == 200 and answer.json()["health_status"] == "healthy")
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return False

    def _restart(self, action: str) -> None:
        try:
            self._actions.post(f"/action/{action}")
        except httpx.HTTPError as error:
            print(f"{action}: {error!r}", flush=True)  # noqa: T201 a program's own log


def main() -> None:
    """Run a responder that only restarts components, as a baseline for real responders, until the process is killed.

    The responder polls the target, requests restarts from the action server, and serves a page with its own status. All
    its settings are environment variables.
    """
    state, token = State(), os.environ["ACTION_SERVER_TOKEN"]
    interval_s = float(os.environ["POLL_INTERVAL_SECONDS"])
    with (
        httpx.Client(base_url=os.environ["TARGET_API_BASE_URL"], timeout=3, trust_env=False) as target,
        httpx.Client(
            base_url=os.environ["ACTION_SERVER_URL"],
            timeout=60,
            trust_env=False,
            headers={"Authorization": f"Bearer {token}", "Connection": "close"},
        ) as actions,
        status_page(state),
    ):
        loop = RestartLoop(target, actions, state)
        while True:
            time.sleep(interval_s)
            loop.poll(time.monotonic())


if __name__ == "__main__":
    main()
