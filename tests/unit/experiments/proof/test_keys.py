"""The file of the signing key."""

from __future__ import annotations

import os
from pathlib import Path

from relab.experiments.proof.keys import SigningKey


def test_key_is_created_although_a_killed_process_left_its_unfinished_file(tmp_path: Path) -> None:
    """In a container, each process may have the id of the killed one."""
    (tmp_path / f".{os.getpid()}.signing_key.pem").write_bytes(b"")
    key = SigningKey(tmp_path / "signing_key.pem")

    assert key.public() == key.known_public()
