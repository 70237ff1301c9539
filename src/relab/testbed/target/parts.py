"""The parts of one worker of the target, wired together, and its periodic tasks: probes, statistics, flags."""

from __future__ import annotations

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from relab.core.errors import RelabError
from relab.flags.models import ServiceFlags
from relab.testbed.target.cache import Cache
from relab.testbed.target.database import ShopDatabase
from relab.testbed.target.flag_file import FlagFile
from relab.testbed.target.flow import AdmissionQueue
from relab.testbed.target.limiter import Bounds
from relab.testbed.target.logs import Logger
from relab.testbed.target.probes import DependencyProbeResult, probe_cache, probe_database
from relab.testbed.target.process_figures import OwnProcess
from relab.testbed.target.recorder import WorkerRecorder
from relab.testbed.target.search import Indexes, Products, Search
from relab.testbed.target.settings import TargetSettings
from relab.testbed.target.shop import Shop, receipts_path
from relab.testbed.target.stats_files import StatsWriter, WorkerStats, read_stats

TICK_S: Final = 0.1
TICKS_PER_WRITE: Final = 2
PROBE_PERIOD_S: Final = 1.0
LAG_SHARE: Final = 0.3
"""Weight of the newest sample in the moving average of the loop's lag."""
SHOP_THREADS: Final = 256
"""More than the flags' default limits admit, so that requests wait for the pool, where waits are counted."""
OPERATOR_THREADS: Final = 4
"""Separate from the shop's threads, so that diagnostics answer even if all of those are blocked."""


class Parts:
    """All objects of one worker of the target, wired together.

    Args:
        settings: the settings, which the caller has read from their file.
        worker: the worker's number, from 1.
        logger: the worker's log.

    Raises:
        BadSettingsError: the products file (`settings.search.products_path`) cannot be read, is invalid, or has no
            products.
        OSError: the worker's folders cannot be created.
    """

    def __init__(self, settings: TargetSettings, *, worker: int, logger: Logger) -> None:
        self.settings = settings
        self.worker = worker
        self.logger = logger
        self.started_s = time.monotonic()
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.recorder = WorkerRecorder(window_s=settings.metrics_window_s, clock=time.monotonic)
        self.flags = FlagFile(settings.flags_path)
        self.gate = AdmissionQueue(self._bounds())
        self.refresh_flags()
        self.database = ShopDatabase(settings.database, self.recorder, worker=worker)
        self.cache = Cache(settings.cache, self.recorder, self._cache_failed)
        products = Products(settings.search.products_path)
        self.indexes = Indexes(products, settings.search, worker=worker)
        self.search = Search(
            self.indexes, self.recorder, flags=lambda: self.flags.current.flags, failed=self._index_failed
        )
        self._shop_threads = ThreadPoolExecutor(SHOP_THREADS, thread_name_prefix="shop")
        self.operator_threads = ThreadPoolExecutor(OPERATOR_THREADS, thread_name_prefix="operator")
        self.shop = Shop(
            database=self.database,
            cache=self.cache,
            search=self.search,
            products=products,
            threads=self._shop_threads,
            receipts=receipts_path(settings.data_dir, worker),
            recorder=self.recorder,
        )
        self._stats = StatsWriter(settings.stats_dir, worker)
        self._process = OwnProcess()
        self._slow: dict[str, Any] = {
            "process": self._process.sample(),
            "search": self.indexes.figures(),
            "probes": {name: DependencyProbeResult(True).figures() for name in ("database", "cache")},
        }

    async def run(self) -> None:
        """Perform the periodic tasks (probes, statistics, flags) until this coroutine is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick())
            tasks.create_task(self._watch())

    def workers(self) -> list[WorkerStats]:
        """Return the statistics of all workers, in the order of their numbers.

        The statistics of this worker are current; those of another worker are the last that it published. Workers
        without statistics are left out.
        """
        others = [
            read_stats(self.settings.stats_dir, number)
            for number in range(1, self.settings.workers + 1)
            if number != self.worker
        ]
        own = WorkerStats.read(json.loads(self._statistics()))
        return sorted([own, *(other for other in others if other is not None)], key=lambda stats: stats.worker)

    async def close(self) -> None:
        """Release all resources of this worker. Running database statements continue until they end or time out."""
        await self.cache.close()
        self.search.close()
        self._shop_threads.shutdown(wait=False, cancel_futures=True)
        self.operator_threads.shutdown(wait=False, cancel_futures=True)
        self.database.dispose()
        self._stats.close()

    def publish_statistics(self) -> None:
        """Write this worker's current statistics to its file, for the other workers; ignore a failure."""
        with suppress(OSError):
            self._stats.write(self._statistics())

    async def take_flags(self, document: Any, expected: int | None = None) -> dict[str, Any]:
        """Change some flags, apply all flags in this worker, and return them with their `version` and `updated_at`.

        Args:
            document: new values of flags, by section and name; other flags are kept.
            expected: the required version of the current flags; None for any version.

        Raises:
            InvalidInputError: a flag is unknown or its value invalid; nothing was changed.
            RelabError: the flags file is invalid; nothing was changed.
            StaleFlagsError: the flags have another version than `expected`; nothing was changed.
            StorageError: the flags file cannot be written; nothing was changed.
        """
        loop = asyncio.get_running_loop()
        stored = await loop.run_in_executor(self.operator_threads, self.flags.update, document, expected)
        self.gate.change(self._bounds())
        self.logger.log("info", "flags_changed", f"flags are now version {stored.version}", flags=stored.document())
        return stored.document()

    async def _tick(self) -> None:
        ticks = 0
        while True:
            due_s = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            late_ms = max(time.monotonic() - due_s, 0) * 1_000
            self.gate.loop_lag_ms += LAG_SHARE * (late_ms - self.gate.loop_lag_ms)
            self.refresh_flags()
            ticks += 1
            if ticks % TICKS_PER_WRITE == 0:
                self.publish_statistics()
                if cut := self.database.end_overdue(now_s=time.monotonic()):
                    self.logger.log("warning", "db_no_answer", f"{cut} connections closed after no answer", count=cut)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(PROBE_PERIOD_S)
            await self.look()

    async def look(self) -> None:
        """Measure the resources of this process, probe database, cache and search indexes, and store the results."""
        loop = asyncio.get_running_loop()
        self._slow["process"] = process = self._process.sample()
        if process["fds"] >= process["fd_limit"]:
            message = f"Too many open files: {process['fds']} of {process['fd_limit']}"
            self.logger.log("error", "os_error", message, error="EMFILE")
        database, cache, search = await asyncio.gather(
            loop.run_in_executor(self.operator_threads, probe_database, self.settings.database),
            probe_cache(self.settings.cache),
            self.search.figures(),
        )
        self._slow["search"] = search
        self._note_probe("database", database)
        self._note_probe("cache", cache)

    def _note_probe(self, name: str, probe: DependencyProbeResult) -> None:
        before = self._slow["probes"][name]
        self._slow["probes"][name] = probe.figures()
        if before["ok"] != probe.ok:
            if probe.ok:
                self.logger.log("info", "dependency_answers", f"{name} answers again", dependency=name)
            else:
                message = f"{name} does not answer: {probe.error}"
                self.logger.log("error", "dependency_failed", message, dependency=name, sqlstate=probe.sqlstate)

    def _statistics(self) -> str:
        head = {
            "worker": self.worker,
            "pid": os.getpid(),
            "written_s": time.monotonic(),
            "started_s": self.started_s,
            "gauges": {
                **self._slow,
                "loop_lag_ms": round(self.gate.loop_lag_ms, 3),
                "limiter": {**self.gate.limiter.figures(), "waiting": self.gate.waiting},
                "pool": self.database.figures(),
                "flags_version": self.flags.current.version,
                "log_lines_lost": self.logger.lost,
            },
        }
        return f'{json.dumps(head)[:-1]},"counted":{self.recorder.text()}}}'

    def refresh_flags(self) -> None:
        """Read and apply the flags file if it was replaced.

        If the file is invalid, log an error and keep the current flags.
        """
        try:
            changed = self.flags.refresh()
        except (RelabError, OSError) as error:
            self.logger.log("error", "flags_unreadable", f"the flags stay as they are: {error}")
            return
        if changed:
            self.gate.change(self._bounds())

    def _bounds(self) -> Bounds:
        flags: ServiceFlags = self.flags.current.flags
        return Bounds.of(flags.control, workers=self.settings.workers)

    def _cache_failed(self, operation: str, cause: str) -> None:
        self.logger.log("warning", "cache_error", f"CACHE_ERROR: {operation} failed: {cause}", operation=operation)

    def _index_failed(self, index: str, cause: str) -> None:
        self.logger.log("warning", "search_index_error", f"search index {index}: {cause}", index=index)
