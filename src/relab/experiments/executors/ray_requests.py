"""Send requests to stop or to pause a running trial from the machine of `lab run` to the trial's node.

The machine of `lab run` writes a request into Ray's key-value store, and the node reads it there. Each side has a
thread that polls. The thread continues after an error of Ray or of a disk, so that later requests still arrive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from relab.core.logging import get_logger
from relab.experiments.models import StopSwitch
from relab.experiments.trial.pausing import PauseRequest, ask, read_request
from relab.experiments.trial.trial_folder import TrialFolder

_STOP: Final = b"stop"
"""The request that ends a running trial; every other request pauses it."""
_SEND_INTERVAL_S: Final = 0.05
_FIRST_POLL_S: Final = 0.05
_MAX_POLL_S: Final = 0.2

_log = get_logger(__name__)


class RequestSender:
    """A thread that sends requests to stop or pause the running trials of one process of `lab run`."""

    def __init__(self, session: str, stop: StopSwitch) -> None:
        self._session = session
        self._stop = stop
        self._lock = threading.Lock()
        self._running: dict[str, TrialFolder] = {}
        self._sent: dict[str, bytes] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="ray-requests", daemon=True)

    def start(self) -> None:
        """Start the thread that sends requests to stop or pause trials.

        The caller must have connected this process to the cluster.
        """
        self._thread.start()

    def add(self, folder: TrialFolder) -> None:
        """From now on, send requests to stop or pause the trial in `folder` to the node that runs the trial."""
        with self._lock:
            self._running[folder.root.name] = folder

    def remove(self, trial_id: str) -> None:
        """Stop sending requests about a trial. Nothing happens if `add` was not called for the trial."""
        with self._lock:
            self._running.pop(trial_id, None)

    def close(self) -> None:
        """End the thread that sends requests."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _send_all(self) -> None:
        failing = _Failing("ray_requests_not_sent")
        while not self._ended.wait(_SEND_INTERVAL_S):
            failing.attempt(self._send)

    def _send(self) -> None:
        from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_put

        with self._lock:
            running = dict(self._running)
        for trial_id, folder in running.items():
            request = _STOP if self._stop.now.is_set() else _request(folder)
            if request is not None and request != self._sent.get(trial_id):
                _internal_kv_put(_key(self._session, trial_id), request, overwrite=True)
                self._sent[trial_id] = request
        for trial_id in self._sent.keys() - running.keys():
            _internal_kv_del(_key(self._session, trial_id))
            del self._sent[trial_id]


@contextmanager
def requests_to(session: str, folder: TrialFolder) -> Iterator[threading.Event]:
    """Poll for requests of `lab run` to stop or pause the trial in `folder`, until the end of the `with` block.

    Yield an event that a request to stop sets. A request to pause is written into `folder`. `session` is the id of the
    process of `lab run`.
    """
    stop_now, ended = threading.Event(), threading.Event()
    done = b""

    def receive() -> None:
        from ray.experimental.internal_kv import _internal_kv_get

        nonlocal done
        request = _internal_kv_get(_key(session, folder.root.name))
        if request == _STOP:
            stop_now.set()
        elif request and request != done:
            ask(folder, PauseRequest.model_validate_json(request))
            done = request

    def poll() -> None:
        failing, interval_s = _Failing("ray_requests_not_received"), _FIRST_POLL_S
        while not ended.wait(interval_s):
            interval_s = min(interval_s * 2, _MAX_POLL_S)
            failing.attempt(receive)

    thread = threading.Thread(target=poll, name="ray-requests", daemon=True)
    thread.start()
    try:
        yield stop_now
    finally:
        ended.set()
        thread.join()


class _Failing:
    """Calls functions that use the Ray cluster. If several calls in a row fail, only the first failure is logged.

    Args:
        event: the name of the log event.
    """

    def __init__(self, event: str) -> None:
        self._event = event
        self._is_failing = False

    def attempt(self, action: Callable[[], None]) -> None:
        from ray.exceptions import RayError

        try:
            action()
        except (RayError, OSError) as error:
            if not self._is_failing:
                _log.warning(self._event, error=str(error)[:300])
            self._is_failing = True
        else:
            self._is_failing = False


def _request(folder: TrialFolder) -> bytes | None:
    request = read_request(folder)
    return None if request is None else request.model_dump_json().encode()


def _key(session: str, trial_id: str) -> str:
    """Return the key under which Ray's key-value store has the request to stop or pause a trial.

    `session` is the id of the process of `lab run` that sends the request.
    """
    return f"relab/{session}/{trial_id}"
