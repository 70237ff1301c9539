"""The first harness of `docs/experiments.md` works as it is printed there, around an agent that has a command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import relab
from relab.experiments.models import TrialOutcome
from relab.experiments.trial.wire import read_output
from support.experiments.configs import IDS

DOCUMENT = Path(relab.__file__).parent.parent.parent / "docs" / "experiments.md"
AGENT = '#!/bin/sh\necho "$2 answers $3"\nprintf 42 > answer.txt\nexit 3\n'


@pytest.mark.parametrize(("expected", "outcome"), [("42", TrialOutcome.SUCCESS), ("43", TrialOutcome.FAILURE)])
def test_documented_harness_checks_the_agent_and_writes_a_valid_output(
    tmp_path: Path, expected: str, outcome: TrialOutcome
) -> None:
    section = DOCUMENT.read_text(encoding="utf-8").partition("## A first harness\n")[2]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    (tmp_path / "harness.py").write_text(found[1])
    agent = tmp_path / "my-agent"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    given: dict[str, Any] = {
        "ids": IDS.to_json(),
        "task": {"task_id": "task_1", "prompt": "6 x 7", "expected": expected},
        "bindings": {"model": "small"},
    }
    (tmp_path / "in.json").write_text(json.dumps(given))
    output, stdout = tmp_path / "out.json", tmp_path / "stdout.log"
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "AGENTLAB_TRIAL_INPUT": str(tmp_path / "in.json"),
        "AGENTLAB_TRIAL_OUTPUT": str(output),
    }
    with stdout.open("wb") as file:
        subprocess.run([sys.executable, "harness.py"], cwd=tmp_path, env=environment, stdout=file, check=True)
    read = read_output(output, stdout, IDS, 0, below=tmp_path)

    assert read.output is not None, read.message
    assert read.output.outcome is outcome
    assert read.output.metrics == {"agent_exit_code": 3}
    assert stdout.read_text() == "small answers 6 x 7\n"
