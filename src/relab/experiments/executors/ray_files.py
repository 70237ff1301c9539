"""Write the files that a node returns into the run's folder. The files are not trusted: paths and sizes are checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Final

from relab.core.errors import RelabError
from relab.experiments.executors.ray_messages import TrialReport
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.evidence import store_document
from relab.experiments.trial.otlp_exports import MAX_TRIAL_BYTES, SpanSink, stored_exports
from relab.experiments.trial.pausing import PAUSED
from relab.experiments.trial.preparing import disk_bytes_of
from relab.experiments.trial.trial_folder import EXPORTS, INPUT, TrialFolder
from relab.experiments.trial.watch import MB
from relab.experiments.workspace.archives import remove_changed, unpack
from relab.experiments.workspace.snapshots import clone

_OWN_BYTES: Final = 64 * MB
"""Room for the runner's own documents in the archive of a trial."""


def unpack_trial(
    report: TrialReport, chunks: Iterable[bytes], context: RunContext, folder: TrialFolder, on_spans: SpanSink
) -> None:
    """Write the files of a trial that ran on a node into the trial's folder on this machine.

    Args:
        report: the node's report about the trial.
        chunks: the archive of the trial's folder on the node.
        context: the values that all trials share.
        folder: the trial's folder on this machine. It contains only an empty input file, which marks a trial that has
            begun.
        on_spans: is called with each OTLP export of the harness.

    Raises:
        ArchiveInvalidError: the archive names files outside of the folder, is too large, or does not match its digests.
        OSError: the disk is full.
    """
    (folder.root / INPUT).unlink()
    if report.has_workspace:
        clone(context.snapshot.copier, folder.workspace)
        remove_changed(folder.workspace, report.changed, context.snapshot.manifest.files)
    attempts = context.config.design.policies.retry.max_attempts
    output_bytes = int(2 * attempts * context.config.runtime.workspace.max_output_mb * MB)
    # Each attempt may leave as much as a trial may write, and the last attempt also leaves its artifacts.
    limit = (attempts + 1) * disk_bytes_of(context) + output_bytes + MAX_TRIAL_BYTES + _OWN_BYTES
    limit += context.stored_result_bytes
    unpack(chunks, folder.root, max_bytes=limit, last=PAUSED)
    for name, raw in report.evidence.items():
        store_document(context.run_dir, name, raw)
    for body, encoding in stored_exports(folder.root / EXPORTS):
        # The exports stay in the trial's folder if telemetry cannot store them, as with the local executor.
        with contextlib.suppress(OSError, RelabError):
            on_spans(body, encoding)
