"""The executor with a result cache: it returns stored results of trials, and lets another executor run the others."""

from __future__ import annotations

import functools
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Final

from relab.experiments.errors import StoredResultInvalidError
from relab.experiments.executors.local import sandbox_options
from relab.experiments.executors.protocol import Executor, ExecutorOptions
from relab.experiments.models import TrialResult
from relab.experiments.plan.trials import Trial
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.network_services import TrialNetwork
from relab.experiments.trial.redaction import Redactor
from relab.experiments.trial.result_cache import ResultCache
from relab.experiments.trial.result_key import ResultKeys
from relab.experiments.trial.resuming import resumable
from relab.experiments.trial.runner import TrialRunner
from relab.experiments.trial.stored_results import CAPTURE
from relab.experiments.trial.trial_folder import trial_folder
from relab.experiments.workspace.snapshots import ProjectSnapshot

_MB: Final = 1_048_576
REJECTED: Final = "cache_rejected"
"""The field of a journal entry with the reason why the trial was run although the cache had an entry for it."""


class CachingExecutor:
    """Takes the results of trials from the project's result cache, and stores the results of the trials that are run.

    Forks (trials that begin at a checkpoint of another trial) and resumed trials are always run, and their results are
    not stored.

    Args:
        inner: the executor that runs the trials.
        name: the name of the executor `inner`.
        options: the options of the executor `inner`.
        cache: the result cache.
    """

    def __init__(self, inner: Executor, name: str, options: ExecutorOptions, cache: ResultCache) -> None:
        self._inner = inner
        self._name = name
        self._settings = options.settings
        self._cache = cache
        settings = options.settings.config.runtime.result_cache
        assert settings is not None
        self._max_bytes = int(settings.max_mb * _MB)
        self._context: RunContext | None = None
        self._keys: ResultKeys | None = None
        self._restorer: TrialRunner | None = None

    @property
    def capacity(self) -> int:
        """The largest number of trials that run at the same time."""
        return self._inner.capacity

    @property
    def image_digest(self) -> str | None:
        """The digest of the trials' container image; None before `prepare`, and if trials run without an image."""
        return self._inner.image_digest

    def prepare(self, run_dir: Path) -> None:
        """Prepare the inner executor, which runs the trials, for the run in the folder `run_dir`.

        Raises:
            ResultCacheUnusableError: the result cache cannot be read or written.
            SandboxUnavailableError, ExecutorUnavailableError: the inner executor cannot run trials.
        """
        self._cache.check()
        self._inner.prepare(run_dir)

    def run_setup(self, command: str, snapshot: ProjectSnapshot) -> ProjectSnapshot:
        """Run a shell command in a copy of the project, with the inner executor; return a snapshot of the result."""
        return self._inner.run_setup(command, snapshot)

    def open(self, context: RunContext) -> None:
        """Open the inner executor with `context`, the values that all trials of the run share.

        Trials can be submitted afterwards.
        """
        self._inner.open(replace(context, stored_result_bytes=self._max_bytes))
        self._context = context
        self._keys = ResultKeys(context, self._name, self._inner.image_digest)
        config, redactor = self._settings.config, Redactor(self._settings.secrets)
        # The sandbox starts nothing; it only returns the paths of folders inside it.
        sandbox = config.runtime.sandbox.mode.kind.make(sandbox_options(config, self._settings.run_id))
        network = TrialNetwork(config, lambda _body, _encoding: None, redactor)
        self._restorer = TrialRunner(context, sandbox, network, redactor)

    def submit(self, trial: Trial) -> Future[TrialResult]:
        """Return the future of a trial's result, from the cache if it has the result; otherwise start the trial.

        Trials must be submitted after `open`, and before `close`.
        """
        assert self._context is not None, "the executor is not open"
        assert self._keys is not None
        if trial.ids.trial_id in self._context.forks or self._is_resumed(trial):
            return self._inner.submit(trial)
        try:
            key = self._cache.key(self._keys.document(trial))
        except (OSError, ValueError):
            # A file that the task reads is missing, or the cache cannot be written. If that matters, the trial fails.
            return self._inner.submit(trial)
        rejected = None
        try:
            restored = self._restored(trial, key)
        except StoredResultInvalidError as error:
            self._cache.reject(key)
            restored = None
            path = self._cache.path(key)
            rejected = f"the entry {path} of the result cache was rejected, and the trial was run: {error}"
        except OSError:
            # Such as a full disk: the trial that is run instead reports it.
            restored = None
        done: Future[TrialResult] = Future()
        # As many trials as the executor runs at the same time are submitted, so none waits, and none can be cancelled.
        done.set_running_or_notify_cancel()
        if restored is not None:
            done.set_result(restored)
        else:
            self._inner.submit(trial).add_done_callback(functools.partial(self._pass_on, trial, key, rejected, done))
        return done

    def close(self) -> None:
        """Close the inner executor, which runs the trials."""
        self._inner.close()

    def _is_resumed(self, trial: Trial) -> bool:
        assert self._context is not None
        try:
            return resumable(trial_folder(self._context.run_dir, trial.ids.trial_id)) is not None
        except Exception:  # noqa: BLE001 the executor raises it where a trial's errors belong
            return True

    def _restored(self, trial: Trial, key: str) -> TrialResult | None:
        assert self._restorer is not None
        stored = self._cache.find(key)
        if stored is None:
            return None
        with stored.file:
            return self._restorer.restore(trial, stored, self._max_bytes)

    def _pass_on(
        self,
        trial: Trial,
        key: str,
        rejected: str | None,
        done: Future[TrialResult],
        ended: Future[TrialResult],
    ) -> None:
        """Store the result of a trial in the cache, then hand the result to the caller of `submit`.

        Args:
            trial: the trial, which was run because the cache had no usable result.
            key: the key of the result in the cache.
            rejected: a sentence about a damaged entry of the cache, for the journal; None if no entry was damaged.
            done: the future that the caller of `submit` waits for; completed after the cache has the result.
            ended: the completed future of the inner executor, with the result or the error of the trial.
        """
        assert self._context is not None
        captured = trial_folder(self._context.run_dir, trial.ids.trial_id).root / CAPTURE
        try:
            result = ended.result()
            if rejected is not None:
                result.entry[REJECTED] = rejected
            if captured.is_file() and not captured.is_symlink():
                self._cache.put(key, captured)
                captured.unlink()
        except BaseException as error:  # noqa: BLE001 the caller gets it
            done.set_exception(error)
        else:
            done.set_result(result)
