"""Seal JSON documents, read the attestation of a run, compute digests of files, and delete the seal of a run.

The seal of a document is a digest of the rest of the document, stored in the document. The attestation of a run is such a
document: it has the digests of the run's records. The seal of a run is something else: a file with the digests of all the
run's files, which `proof/seal.py` writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jiter

from relab.core.json import digest
from relab.experiments.errors import damaged
from relab.experiments.records.file_names import ATTESTATION, STATEMENTS
from relab.experiments.records.file_names import SEAL as RUN_SEAL

SEAL: Final = "seal"
"""The field in `ext` of a document that holds the digest of the document without this field."""


def seal(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a JSON document with its seal, a digest of the document without the seal, in `ext.seal`."""
    ext = {name: value for name, value in document.get("ext", {}).items() if name != SEAL}
    return {**document, "ext": ext | {SEAL: digest({**document, "ext": ext})}}


def read_attestation(run_dir: Path) -> dict[str, Any] | None:
    """Return the attestation of a run (the digests of its records) as JSON; None if the run has never ended.

    The attestation is checked against its seal (a digest of its content). The seal may be missing only if the field
    `ext.journal` is missing too: an early version of relab wrote neither.

    Raises:
        RunDamagedError: the attestation cannot be read, or its seal is missing or does not match.
    """
    path = run_dir / ATTESTATION
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise damaged(path, f"cannot be read: {error.strerror}") from error
    try:
        document = jiter.from_json(raw)
    except ValueError as error:
        raise damaged(path, f"is not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("ext"), dict):
        raise damaged(path, "is not an attestation: it has no ext")
    said = document["ext"].get(SEAL)
    if said is None and "journal" in document["ext"]:
        raise damaged(path, "was changed after it was written: it has no seal")
    if said is not None and said != seal(document)["ext"][SEAL]:
        raise damaged(path, "was changed after it was written: its seal does not match")
    return document


def digest_of_file(path: Path) -> str | None:
    """Return the SHA-256 of a file's bytes as `sha256:` and hexadecimal digits; None if there is no such file.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None


def break_seal(run_dir: Path) -> None:
    """Delete a run's seal (the digests of its files) and the signed statements about the run.

    Call this function before anything in the run's folder is changed.
    """
    (run_dir / STATEMENTS).unlink(missing_ok=True)
    (run_dir / RUN_SEAL).unlink(missing_ok=True)
