"""Noise events, which look alarming but need no repair: a deployment, a job of low priority, and a slow client."""

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
    b"POST /api/v1/orders HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0 (Mobile)\r\n"
    b"Content-Type: application/json\r\nContent-Length: 34\r\n\r\n" + b'{"product_id": 1, "quantity": 1}  '
)


class Batch(FaultParameters):
    """Parameters of `batch_job`, a harmless event in which a batch job (the report job) uses a processor.

    Attributes:
        seconds: how long the report job works, in seconds.
    """

    seconds: float = Field(20.0, gt=0, le=3_600)


class Slow(FaultParameters):
    """Parameters of `slow_client`, a harmless event in which one client sends its requests slowly.

    Attributes:
        byte_s: time in seconds between two bytes of a request.
    """

    byte_s: float = Field(0.5, gt=0, le=60)


class Deployment:
    """Injector of the harmless event `deploy_restart`: restarts the target's workers one by one.

    Like a deployment, it also adds a version to the settings history. No setting changes in this version.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._ended = threading.Event()
        self._failure: RelabError | None = None
        self._thread = threading.Thread(target=self._roll, name="deployment", daemon=True)

    def set_level(self, level: float) -> None:
        """Start a thread that restarts the target's workers one by one; do nothing if the strength `level` is 0."""
        if level > 0:
            self._ground.plant.change_settings({}, "release 4.11.3", author=DEPLOYER, restart=False)
            self._thread.start()

    def end(self) -> None:
        """Restart no further workers, and wait until the restart in progress has ended.

        Raises:
            RelabError: the restart of a worker has failed. Only the first call raises this error.
        """
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        # Report the failure once: the deployment has ended, so a second call must succeed.
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _roll(self) -> None:
        try:
            for item in self._ground.plant.components("target"):
                if self._ended.is_set():
                    return
                self._ground.plant.restart(item["name"])
        except RelabError as error:
            self._failure = error


class SlowClient:
    """Injector that acts as a slow client: a thread sends requests one after another, each byte by byte."""

    def __init__(self, ground: Ground, given: Slow) -> None:
        parts = urlsplit(ground.target_url)
        self._at = (parts.hostname or "", parts.port or 80)
        self._byte_s = given.byte_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, name="client", daemon=True)

    def set_level(self, level: float) -> None:
        """Start the thread that sends slow requests; do nothing if the strength `level` is 0."""
        if level > 0:
            self._thread.start()

    def end(self) -> None:
        """Stop the slow client and its thread."""
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
    """The noise event (harmless event) `deploy_restart`: a deployment restarts the workers, one after another."""

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
        """Return an injector that restarts the target's workers one after another.

        `ground` gives access to the testbed's components.
        """
        return Deployment(ground)


class BatchNoise(Noise[Batch]):
    """The noise event (harmless event) `batch_job`: a batch job, the report job, uses a processor at low priority."""

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
        """Return an injector that starts the report job (a batch job) at the lowest priority.

        `ground` gives access to the testbed's components; `given` has the parameters of the event.
        """
        return RunningReportJob(ground, 1, nice=_LOWEST_PRIORITY, seconds=given.seconds)

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return random `seconds`: how long the report job (a batch job beside the target) works."""
        return {"seconds": draw_between(rng, 5, 25)}


class SlowClientNoise(Noise[Slow]):
    """The noise event (harmless event) `slow_client`: one client sends its requests slowly, so that they take long."""

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
        """Return an injector that starts one slow client.

        `ground` gives access to the testbed's components; `given` has the parameters of the event.
        """
        return SlowClient(ground, given)

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `byte_s`: the time in seconds between two bytes of a request of the slow client."""
        return {"byte_s": draw_between(rng, 0.1, 1.0)}
