"""Noise: events that look alarming but need no repair: a deployment, a low-priority job, one slow client."""

from __future__ import annotations

import contextlib
import socket
import threading
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field

from relab.core.errors import RelabError
from relab.testbed.chaos.faults.base import Noise, draw_between
from relab.testbed.chaos.faults.host import RunningReportJob
from relab.testbed.chaos.faults.settings import DEPLOYER
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.models import FaultParameters, Symptom

_LOWEST_PRIORITY: Final = 19
_REQUEST: Final = (
    b"POST /api/v1/orders HTTP/1.1\r\nHost: shop\r\nUser-Agent: Mozilla/5.0 (Mobile)\r\n"
    b"Content-Type: application/json\r\nContent-Length: 34\r\n\r\n" + b'{"product_id": 1, "quantity": 1}  '
)


class Batch(FaultParameters):
    """Parameters of a job: the time after which it stops working."""

    seconds: float = Field(20.0, gt=0, le=3_600)


class Slow(FaultParameters):
    """Parameters of a slow client: the time between two bytes."""

    byte_s: float = Field(0.5, gt=0, le=60)


class Deployment:
    """A deployment: it restarts the workers one after another, with a new version of the settings without changes."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._ended = threading.Event()
        self._failure: RelabError | None = None
        self._thread = threading.Thread(target=self._roll, name="deployment", daemon=True)

    def set_level(self, level: float) -> None:
        """Start the deployment; it continues by itself."""
        if level > 0:
            self._ground.plant.change_settings({}, "release 4.11.3", author=DEPLOYER, restart=False)
            self._thread.start()

    def end(self) -> None:
        """Wait for the worker that is being restarted, and do not restart the others."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _roll(self) -> None:
        try:
            for item in self._ground.plant.components("target"):
                if self._ended.is_set():
                    return
                self._ground.plant.restart(item["name"])
        except RelabError as error:
            self._failure = error


class SlowClient:
    """One client that sends its requests byte by byte."""

    def __init__(self, ground: Ground, given: Slow) -> None:
        parts = urlsplit(ground.target_url)
        self._at = (parts.hostname or "", parts.port or 80)
        self._byte_s = given.byte_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, name="client", daemon=True)

    def set_level(self, level: float) -> None:
        """Start the client."""
        if level > 0:
            self._thread.start()

    def end(self) -> None:
        """Stop the client."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _send(self) -> None:
        while not self._ended.is_set():
            # If the connection is lost, the client connects again, like a phone with a bad connection.
            with contextlib.suppress(OSError), socket.create_connection(self._at, timeout=5) as line:
                for at in range(len(_REQUEST)):
                    line.sendall(_REQUEST[at : at + 1])
                    if self._ended.wait(self._byte_s):
                        return
                line.recv(65_536)
            self._ended.wait(self._byte_s)


class DeploymentNoise(Noise[FaultParameters]):
    """Workers restart on purpose."""

    name = "deploy_restart"
    title = "A deployment restarts the workers one after another"
    parameters = FaultParameters
    symptom = Symptom(
        "a worker is missing for some seconds",
        "the restarts were requested (they are not counted), and a version of the settings records the deployment",
        ("crash_loop", "oom", "hang"),
    )
    harms = ("roll-back-settings", "restart-target")

    def injector(self, ground: Ground, _given: FaultParameters) -> Deployment:
        """Return a deployment."""
        return Deployment(ground)


class BatchNoise(Noise[Batch]):
    """The processors are busy, at the lowest priority."""

    name = "batch_job"
    title = "A job of low priority runs"
    parameters = Batch
    symptom = Symptom(
        "the processors are busy",
        "one process of a job at the lowest priority, which yields to the target and ends by itself",
        ("cpu_saturation", "cpu_throttle"),
    )
    harms = ("stop-job", "restart-target")

    def injector(self, ground: Ground, given: Batch) -> RunningReportJob:
        """Return an injector that starts the report job at the lowest priority."""
        return RunningReportJob(ground, 1, nice=_LOWEST_PRIORITY, seconds=given.seconds)

    def draw(self, rng: Random) -> dict[str, Any]:
        """Draw the duration of the job."""
        return {"seconds": draw_between(rng, 5, 25)}


class SlowClientNoise(Noise[Slow]):
    """A request takes long because of its client."""

    name = "slow_client"
    title = "One client is slow"
    parameters = Slow
    symptom = Symptom(
        "one request takes very long",
        "the target waits for the client, and all other requests are as fast as usual",
        ("hang", "cpu_throttle"),
    )
    harms = ("restart-target", "set-flow-control")

    def injector(self, ground: Ground, given: Slow) -> SlowClient:
        """Return a slow client."""
        return SlowClient(ground, given)

    def draw(self, rng: Random) -> dict[str, Any]:
        """Draw the time between two bytes."""
        return {"byte_s": draw_between(rng, 0.1, 1.0)}
