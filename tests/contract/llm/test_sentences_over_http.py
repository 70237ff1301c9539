"""`lab rca rules test --judge` with a model over HTTP: found behaviours, stored answers, and a failing model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.lab.cli import Lab
from support.telemetry.runs import minimal_run, step

RULES = """version: 1
behaviours:
  - name: blames
    description: The agent blames the user
    sentence: The agent says that a problem is the fault of the user.
"""
CODE = re.compile(r'<run code=\\*"(\w{32})')


@pytest.fixture
def lab(server: Any, tmp_path: Path) -> Lab:
    """A `lab` home with a run that shows the behaviour, configured to use the loopback model server."""
    settings = {
        "RELAB_LLM__BASE_URL": f"{server.url}/v1",
        "RELAB_LLM__API_KEY": "sk-loopback",
        "RELAB_LLM__MODEL": "m",
        "RELAB_LLM__PROVIDER": "openai",
    }
    made = Lab(tmp_path, settings)
    (tmp_path / "rules.yaml").write_text(RULES)
    made.run("db", "upgrade", code=None)
    runs = [minimal_run("r", steps=[step("s0", output_summary="It is your own fault.")])]
    made.run("agent-runs", "ingest", "-", stdin=json.dumps(runs))
    return made


def agrees(exchange: Any) -> None:
    """Respond that step 0 shows the behaviour."""
    found = CODE.search(json.dumps(exchange.request.body))
    assert found is not None
    said = {"is_shown": True, "step": 0, "quote": "your own fault", "reason": "", "confidence": "high"}
    exchange.complete(json.dumps({"code": found[1], **said}))


def test_model_is_called_only_with_the_option_and_its_answers_are_stored(server: Any, lab: Lab) -> None:
    server.will(agrees)
    command = ("rca", "rules", "test", str(lab.home / "rules.yaml"))
    without = lab.json(*command)
    assert without["counts"] == {"blames": 0}
    assert list(without["not_judged"]) == ["blames"]
    assert server.requests == []

    found = lab.json(*command, "--judge")
    assert found["counts"] == {"blames": 1}
    assert found["runs"][0]["behaviours"][0]["by_model"] is True
    assert (found["cost"]["model"], found["cost"]["calls"]) == ("m", 1)
    again = lab.run(*command, "--judge").out
    assert "Sentences judged by m: 0 calls, 0 tokens, 1 stored answers" in again
    assert "blames (opinion of a model)" in again
    assert len(server.requests) == 1


@pytest.mark.full
def test_broken_model_leaves_the_sentence_not_judged(server: Any, lab: Lab) -> None:
    server.will(server.say("yes"))
    found = lab.json("rca", "rules", "test", str(lab.home / "rules.yaml"), "--judge")

    ((reason, count),) = found["not_judged"]["blames"].items()
    assert reason.startswith("the model's answer was dropped (invalid_answer): The model's answer is not JSON")
    assert "RELAB_LLM__OUTPUT_METHOD" in reason
    assert count == 1
    assert found["cost"]["dropped"] == {"invalid_answer": 1}
