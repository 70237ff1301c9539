"""Run the setup command of `run-dev --setup` once, before the trials, in the same kind of sandbox as the trials.

All trials then start from a snapshot of the workspace that the command leaves.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from relab.experiments.config.paths import LAB
from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.sandbox.protocol import Launch, Sandbox, SandboxError
from relab.experiments.trial.context import RunSettings
from relab.experiments.trial.preparing import harness_environment
from relab.experiments.trial.redaction import Redactor
from relab.experiments.trial.trial_folder import TrialFolder
from relab.experiments.workspace.snapshots import ProjectSnapshot, clone, take_snapshot
from relab.experiments.workspace.untrusted_trees import remove_tree

TIMEOUT_S: Final = 3_600.0
_LOOK_S: Final = 0.1
_SHOWN_CHARS = 2_000
_READ_BYTES = 1_048_576


def run_setup(
    command: str,
    settings: RunSettings,
    sandbox: Sandbox,
    snapshot: ProjectSnapshot,
    redactor: Redactor,
    stop_now: threading.Event,
) -> ProjectSnapshot:
    """Run a shell command in a copy of the project; return a snapshot of the resulting workspace.

    Args:
        command: a command for `/bin/sh -c`; it gets the environment variables and secrets of trials.
        settings: the settings of the run.
        sandbox: a prepared sandbox.
        snapshot: the snapshot of the project.
        redactor: redacts the secrets that the command gets.
        stop_now: when set, ends the command at once.

    Raises:
        KeyboardInterrupt: `stop_now` was set.
        ExperimentInvalidError: the command cannot be run, or failed; after a failure the message contains the end of
            its output, without secrets.
    """
    cache = settings.root / LAB / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="setup-", dir=cache) as name:
        folder = TrialFolder(Path(name) / "trial")
        folder.make()
        clone(snapshot.copier, folder.workspace)
        folders = folder.folders(snapshot.root, snapshot.root)
        places = sandbox.places(folders)
        launch = Launch(
            command=["/bin/sh", "-c", command],
            environment=harness_environment(settings, places),
            folders=folders,
            stdin=Path("/dev/null"),
            stdout=folder.stdout,
            stderr=folder.stderr,
        )
        code = _wait(sandbox, launch, stop_now)
        if code != 0:
            said = redactor.text(_end_of(folder.stdout) + _end_of(folder.stderr))
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            shown = said[-_SHOWN_CHARS:].strip()
            raise ExperimentInvalidError(
                f"The setup command {how}{f': {shown}' if shown else ', and printed nothing.'}"
            )
        # Without ignore patterns, because the command may have made ignored files, such as node_modules.
        made = take_snapshot(folder.workspace, cache)
        remove_tree(folder.root)
        return made


def _end_of(path: Path) -> str:
    """Return the last `_READ_BYTES` bytes of a file as text.

    The caller must show only the end of this text: a secret at the beginning may be cut off, and is then not redacted.
    """
    # A secret at the beginning of the text may be cut, and is then not redacted.
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _READ_BYTES, 0))
        return file.read(_READ_BYTES).decode(errors="replace")


def _wait(sandbox: Sandbox, launch: Launch, stop_now: threading.Event) -> int:
    try:
        running = sandbox.start(launch)
        end_by = time.monotonic() + TIMEOUT_S
        try:
            while (code := running.wait(_LOOK_S)) is None:
                if stop_now.is_set():
                    raise KeyboardInterrupt
                if time.monotonic() >= end_by:
                    return running.end(1.0)
            return code
        finally:
            running.close()
    except SandboxError as error:
        raise ExperimentInvalidError(f"The setup command cannot be run: {error}.") from error
