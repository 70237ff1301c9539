"""An installation with one small service, on which rollouts are run in this process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Never

import pytest

from relab.bootstrap import Services
from relab.rollouts.execution import executor
from relab.rollouts.execution.progress import OnRolloutProgress, RolloutProgress
from relab.rollouts.models import ArmWindow
from relab.rollouts.record import RolloutRecord
from support.rollouts.plans import small_plan
from support.rollouts.small_service import SmallService


class RolloutLab:
    """Services of one installation with one small service."""

    def __init__(self, services: Services, service: SmallService, folder: Path) -> None:
        self.services = services
        self.service = service
        self.folder = folder
        self.stop = threading.Event()
        self.progress: list[RolloutProgress] = []
        self.on_progress: OnRolloutProgress = self.progress.append

    def run(self, *, is_dry_run: bool = False, **fields: Any) -> RolloutRecord:
        plan = small_plan(self.service.url, self.folder, **fields)
        return self.services.rollouts.run(
            plan, by="tester", stop=self.stop, on_progress=self.on_progress, root=self.folder, is_dry_run=is_dry_run
        )

    def last(self) -> RolloutRecord:
        found = self.services.rollouts.list_rollouts().items[0]
        return self.services.rollouts.get(found.rollout_id)

    def limit(self) -> int:
        return self.service.flags.control.max_concurrency

    def execute_until(self, rollout_id: str, windows: int) -> RolloutRecord:
        """Execute a queued rollout until `windows` windows are stored and its worker dies; return the stored record."""
        rollouts = self.services.rollouts
        store = rollouts._store
        add_window = store.add_window

        def add_and_die(of_rollout: str, window: ArmWindow) -> None:
            add_window(of_rollout, window)
            if len(rollouts.get(of_rollout).windows) == windows:
                raise WorkerDiedError

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(store, "add_window", add_and_die)
            patched.setattr(executor, "restore_flags", _die)
            with pytest.raises(WorkerDiedError):
                rollouts.execute(rollout_id, threading.Event())
        return rollouts.get(rollout_id)


class WorkerDiedError(BaseException):
    """Ends an execution like the death of its process: nothing more is stored, and the flags stay changed."""


def _die(*_: Any, **__: Any) -> Never:
    raise WorkerDiedError
