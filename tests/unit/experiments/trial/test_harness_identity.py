"""The identity of a harness program: which digest identifies a script, an installed module or an image."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import pytest

from relab.core.json import digest
from relab.experiments.config.paths import Script
from relab.experiments.trial.harness_identity import harness_identity, identity_fields
from support.experiments.configs import config

IMAGE = "sha256:" + "1" * 64


@pytest.mark.parametrize("mode", ["local", "bwrap", "container"])
def test_project_script_is_identified_by_its_own_digest(tmp_path: Path, mode: str) -> None:
    script = tmp_path / "harness.py"
    script.write_text("print(1)\n")
    found = config(runtime__harness={"command": ["python", "harness.py"]}, runtime__sandbox={"mode": mode})

    assert harness_identity(found, Script(script, exists=True), tmp_path, IMAGE if mode == "container" else None) == {
        "entry_command": ["python", "harness.py"],
        "exec_digest": "sha256:" + hashlib.sha256(b"print(1)\n").hexdigest(),
        "exec_digest_of": "script",
    }


def test_installed_module_is_identified_by_its_interpreter(tmp_path: Path) -> None:
    found = config(runtime__harness={"command": [sys.executable, "-m", "installed"]})
    program = Path(str(shutil.which(sys.executable)))

    identity = harness_identity(found, Script(None, exists=True), tmp_path)

    assert identity["exec_digest_of"] == "program"
    assert identity["exec_digest"] == "sha256:" + hashlib.sha256(program.read_bytes()).hexdigest()


def test_image_program_is_identified_by_the_image_and_not_by_a_local_program_of_that_name(tmp_path: Path) -> None:
    found = config(runtime__harness={"command": ["sh"]}, runtime__sandbox={"mode": "container"})
    namesake = Script(Path("/bin/sh"), exists=True)

    identity = harness_identity(found, namesake, tmp_path, IMAGE)

    assert identity["exec_digest"] == IMAGE
    assert identity["exec_digest_of"] == "image"


@pytest.mark.parametrize("script", [Script(None, exists=True), Script(Path("/nonexistent"), exists=False)])
def test_unreadable_program_is_identified_by_its_command(tmp_path: Path, script: Script) -> None:
    found = config(runtime__harness={"command": ["no-such-program", "-x"]})

    identity = harness_identity(found, script, tmp_path)

    assert identity["exec_digest"] == digest(["no-such-program", "-x"])
    assert identity["exec_digest_of"] == "command"


def test_identity_of_an_earlier_version_gets_the_digest_of_its_command() -> None:
    found = config(runtime__harness={"command": ["old"]})

    contract, others = identity_fields(found, {"entry_command": ["old"]})

    assert contract == {"entry_command": ["old"], "exec_digest": digest(["old"])}
    assert others == {"exec_digest_of": "command"}
