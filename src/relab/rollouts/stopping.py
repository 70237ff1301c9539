"""Stop a running rollout at a person's request: the executing process polls the database for it once a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

from relab.core.logging import get_logger
from relab.rollouts.store import RolloutStore
from relab.storage.errors import DatabaseUnavailableError

_POLL_INTERVAL_S: Final = 1.0

_log = get_logger(__name__)


@contextmanager
def obeying_requests(store: RolloutStore, rollout_id: str, stop: Event) -> Iterator[None]:
    """Return a context manager; while its block runs, a thread sets `stop` if a person requests to stop the rollout."""
    ended = Event()

    def poll() -> None:
        while not ended.is_set():
            try:
                if store.stop_request(rollout_id) is not None:
                    stop.set()
                    return
            except DatabaseUnavailableError as error:
                _log.warning("rollout_stop_request_not_read", rollout_id=rollout_id, error=str(error))
            ended.wait(_POLL_INTERVAL_S)

    thread = Thread(target=poll, name="rollout-stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
