"""Identify the program that the trials of a run start: its command, and a digest that changes with the program."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from relab.core.json import digest
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.config.paths import Script

_OF_THE_CONTRACT: Final = frozenset(("source_digest", "exec_digest", "entry_command"))


def harness_identity(
    config: ExperimentConfig, script: Script, root: Path, image_digest: str | None = None
) -> dict[str, Any]:
    """Return `entry_command`, `exec_digest` and `exec_digest_of` of a harness, without running it.

    `exec_digest_of` says what was digested. It is the first of these that exists:

    - `script`: the script that the command names
    - `image`: the container's image
    - `program`: the program on the PATH, such as an interpreter
    - `command`: the command itself

    Args:
        config: the experiment.
        script: the script that the command names, with its path on this machine.
        root: the folder of the project. If trials run in a container, a script outside of this folder is ignored.
        image_digest: the digest of the container's image; None if trials run without an image.
    """
    command = list(config.runtime.harness.command)
    in_container = config.runtime.sandbox.mode.kind.runs_image
    found, of = None, "script"
    if script.path is not None and (not in_container or script.path.is_relative_to(root)):
        found = digest_of_file(script.path)
    if found is None and image_digest is not None:
        found, of = image_digest, "image"
    if found is None and not in_container:
        program = shutil.which(command[0])
        found, of = digest_of_file(Path(program)) if program is not None else None, "program"
    if found is None:
        found, of = digest(command), "command"
    return {"entry_command": command, "exec_digest": found, "exec_digest_of": of}


def identity_fields(config: ExperimentConfig, identity: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split `identity`, the fields that identify a harness; return `(fields that AgentLab knows, other fields)`.

    AgentLab is an experiment runner whose file formats relab keeps. Its schemas allow only some of the fields. If
    `identity` has no `exec_digest`, the digest of the command in `config` is added.
    """
    contract = {name: value for name, value in identity.items() if name in _OF_THE_CONTRACT}
    others = {name: value for name, value in identity.items() if name not in _OF_THE_CONTRACT}
    # Runs that an earlier version began have no digest.
    if "exec_digest" not in contract:
        contract["exec_digest"] = digest(list(config.runtime.harness.command))
        others["exec_digest_of"] = "command"
    return contract, others


def digest_of_file(path: Path) -> str | None:
    """Return the SHA-256 digest of a file, as `sha256:` and hexadecimal digits; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
