"""The names of the files in the folder of a run.

The names are those of AgentLab, an experiment runner whose file formats relab supports. The names of the files in the
folder of a trial are in `trial/trial_folder.py`.
"""

from __future__ import annotations

from typing import Final

MANIFEST: Final = "manifest.json"
RESOLVED: Final = "resolved_experiment.json"
DIGEST: Final = "resolved_experiment.digest"
ATTESTATION: Final = "attestation.json"
SEAL: Final = "seal.jsonl"
SEAL_FORMAT: Final = "seal_v1"
STATEMENTS: Final = "attestation.intoto.jsonl"
DATASET: Final = "dataset/tasks.jsonl"
PARENTS: Final = "fork/parents.jsonl"
RUN_CONTROL: Final = "runtime/run_control.json"
DRIFT: Final = "runtime/drift.jsonl"
LOCK: Final = "runtime/run.lock"
PAUSE_REQUEST: Final = "runtime/pause_request.json"
SESSIONS: Final = "runtime/sessions.jsonl"
