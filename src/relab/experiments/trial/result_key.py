"""Collect everything that a trial's result depends on in one JSON document.

The keyed digest of this document is the key of the trial in the result cache.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from relab import __version__
from relab.core.json import digest
from relab.experiments.config.limits import limits_of
from relab.experiments.plan.dataset import Mount
from relab.experiments.plan.trials import Trial
from relab.experiments.sandbox.protocol import PLACES
from relab.experiments.trial import wire
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.harness_identity import digest_of_file
from relab.experiments.trial.preparing import harness_environment, mounts_of
from relab.experiments.workspace.snapshots import manifest_of

FORMAT: Final = "relab_result_key_v1"
_NOT_OF_THE_TRIAL: Final = ("run_id", "trial_id")


class ResultKeys:
    """Makes the JSON documents whose keyed digests are the keys of trials in the result cache. Thread-safe.

    Args:
        context: the values that all trials share.
        executor: the name of the executor that runs the trials.
        image_digest: the digest of the container image; None if trials run without an image.
    """

    def __init__(self, context: RunContext, executor: str, image_digest: str | None) -> None:
        self._context = context
        config = context.config
        runtime = config.runtime.model_dump(mode="json", by_alias=True)
        del runtime["result_cache"]
        limits = asdict(limits_of(config))
        del limits["at_once"]
        self._shared: dict[str, Any] = {
            "format": FORMAT,
            "runner_version": __version__,
            "machine": [platform.system(), platform.machine()],
            "executor": executor,
            "experiment": config.experiment.id,
            "runtime": runtime,
            "limits": limits,
            "profile": config.design.sanitization_profile.value,
            "retry": config.design.policies.retry.model_dump(mode="json"),
            "harness": dict(context.harness_identity),
            "program": None
            if config.runtime.sandbox.mode.kind.runs_image
            else _program(config.runtime.harness.command),
            "image": image_digest,
            "project": context.snapshot.manifest.digest,
            "environment": harness_environment(context, PLACES),
        }
        self._lock = threading.Lock()
        self._packs: dict[str, str] = {}

    def document(self, trial: Trial) -> dict[str, Any]:
        """Return everything that a trial's result depends on, as JSON; trials with equal documents share one result.

        The document contains secrets: do not store the document itself, but only its keyed digest.

        Raises:
            OSError: a data set pack that the task reads is missing, or cannot be read.
        """
        given = wire.trial_input(self._context.config, trial, PLACES)
        given["ids"] = {name: value for name, value in given["ids"].items() if name not in _NOT_OF_THE_TRIAL}
        files = [[each.path, hashlib.sha256(each.content).hexdigest(), each.executable] for each in trial.task.files]
        mounted = {
            each.path: [each.ref, self._pack(each, path)]
            for each, path in zip(trial.task.mounts, mounts_of(trial.task, self._context.root).values(), strict=True)
        }
        return {**self._shared, "input": given, "files": files, "mounts": mounted}

    def _pack(self, mount: Mount, path: Path) -> str:
        with self._lock:
            if mount.ref not in self._packs:
                found = manifest_of(path).digest if path.is_dir() else digest_of_file(path)
                if found is None:
                    raise OSError(f"{path} cannot be read")
                self._packs[mount.ref] = found
            return self._packs[mount.ref]


def _program(command: list[str]) -> Mapping[str, str | None]:
    """Return the `path` of the program that a command starts on this machine, and the `digest` of its content.

    If the program cannot be read, the digest is None. If the program is not found, the path is None, and the digest is
    the one of the command's words.
    """
    found = shutil.which(command[0])
    if found is None:
        return {"path": None, "digest": digest(command)}
    return {"path": str(Path(found).resolve()), "digest": digest_of_file(Path(found))}
