"""`lab incidents eval`: an interrupted evaluation is continued, and reported as a whole."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import relab
from relab.testbed import service
from relab.testbed.layout import Layout
from relab.testbed.scoring.testbeds import slot_name
from rig.waiting import wait_until
from support.lab.process import lab_environment
from support.testbed.beds import bed_home, free_base

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]
EXAMPLE = Path(relab.__file__).parent.parent.parent / "examples" / "responder.py"
TIMEOUT_S = 400


def start(folder: Path, home: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "relab", "incidents", "eval", str(folder), *arguments],
        env=lab_environment(home, {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], code: int) -> str:
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == code, err + out
    return out


def outputs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/.lab/runs/*/trials/*/out/trial_output.json"))


def test_evaluation_is_continued_and_reported(tmp_path: Path) -> None:
    folder = tmp_path / "responders"
    with bed_home() as home:
        asked = (
            "--episodes", "2", "--compared", "1", "--unknown", "0", "--timeout", "6", "--fault", "hang", "--seed", "6",
            "--port-base", str(free_base()), "--responder", f"mine={sys.executable} {EXAMPLE}",
        )  # fmt: skip
        first = start(folder, home, *asked)
        wait_until(lambda: outputs(folder), within_s=200, what="the first episode to end")
        first.send_signal(signal.SIGINT)
        told = ended(first, 130)
        assert "--continue" in told
        kept = {path: path.read_bytes() for path in outputs(folder)}
        assert 1 <= len(kept) < 4
        assert not service.is_running(Layout.of(home, slot_name(0)))

        # An existing evaluation is neither restarted nor overwritten.
        assert "has an evaluation" in start(folder, home, *asked).communicate(timeout=60)[1]

        found: dict[str, Any] = json.loads(ended(start(folder, home, "--continue", "--json"), 0))
        assert found["finished"]
        assert not service.is_running(Layout.of(home, slot_name(0)))
    assert kept == {path: path.read_bytes() for path in kept}
    assert len(outputs(folder)) == found["planned"] == 4
    episodes = {name: figures["episodes"] for name, figures in found["responders"].items()}
    assert episodes == {"mine": 2, "do-nothing": 1, "restart-only": 1}
    assert found["responders"]["do-nothing"]["sums"]["actions"] == 0
    assert set(found["compared"]) == {"do-nothing", "restart-only"}
    assert found["unknown"] is None
    assert list(found["by_subject"]) == ["hang"]

    shown = ended(start(folder, home, "--report"), 0)
    assert "mine compared with restart-only" in shown
    assert json.loads((folder / "report.json").read_bytes())["responders"] == found["responders"]
