"""The names of the files in the folder of a run.

AgentLab, an experiment runner whose file formats relab keeps, defines them.
`trial/trial_folder.py` has the names of the files in the folder of a trial.
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
