"""Seal and sign a run that has ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from relab.core.atomic_files import replacing
from relab.experiments.proof.envelopes import sign
from relab.experiments.proof.keys import SigningKey, SigningKeyError
from relab.experiments.proof.seal import write_seal
from relab.experiments.proof.statements import provenance_of, results_of
from relab.experiments.records.file_names import ATTESTATION, RUN_CONTROL, SEAL, STATEMENTS
from relab.experiments.records.journal import NAME as JOURNAL
from relab.experiments.records.journal import read_journal
from relab.experiments.records.run_folder import RunFolder
from relab.experiments.records.seals import digest_of_file


@dataclass(frozen=True)
class Signer:
    """The key that signs a run. Without a key, the run is not signed.

    Attributes:
        key: the key; None if the run is not signed.
        key_id: the id of the key; None if the run is not signed.
        warnings: sentences for the user that say why a key cannot be used.
    """

    key: SigningKey | None = None
    key_id: str | None = None
    warnings: tuple[str, ...] = ()


def usable_signer(path: Path | None) -> Signer:
    """Return a signer with the key in the file `path`; create a missing file with a new key.

    If `path` is None, the signer has no key and does not sign. If the key cannot be used, the signer has no key, and
    its `warnings` say why.
    """
    if path is None:
        return Signer()
    key = SigningKey(path)
    try:
        return Signer(key, key.public().key_id)
    except SigningKeyError as error:
        return Signer(warnings=(f"The run is not signed. {error}",))


def prove_run(run: RunFolder, signer: Signer) -> None:
    """Write the seal of a run (the digests of its files) and, if `signer` has a key, signed statements about the run.

    The caller must hold the run's lock. Before files are added to a finished run, its seal must be deleted
    (`seals.break_seal`).

    Raises:
        SigningKeyError: the key cannot be used.
        OSError: a file cannot be written, for example on a full disk.
    """
    totals = write_seal(run.path)
    key = signer.key
    if key is None:
        return
    subjects = {SEAL: totals.sha256, ATTESTATION: _sha256(run.path, ATTESTATION), JOURNAL: _sha256(run.path, JOURNAL)}
    finished_at = json.loads((run.path / RUN_CONTROL).read_bytes())["updated_at"]
    rows = (entry["row"] for entry in read_journal(run.path))
    outcomes = {row["trial_id"]: row["outcome"] for row in rows}
    statements = (provenance_of(run, subjects, finished_at), results_of(run, subjects, outcomes))
    with replacing(run.path / STATEMENTS, durable=True) as fresh:
        fresh.write_bytes(b"".join(sign(statement, key) + b"\n" for statement in statements))


def _sha256(run_dir: Path, name: str) -> str:
    digest = digest_of_file(run_dir / name)
    if digest is None:
        raise FileNotFoundError(str(run_dir / name))
    return digest.removeprefix("sha256:")
