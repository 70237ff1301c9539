"""`lab rollout from-experiment` as a user runs it: an experiment, then the flag of its variant."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from relab.flags.models import ServiceFlags
from rig.trial_rows import trial_row, write_run
from support.lab.cli import Lab
from support.rollouts.plans import CONC_CAP
from support.rollouts.small_service import small_service


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, {})


def run_of(lab: Lab, name: str, lead: float) -> str:
    """Write a run whose variant has a score that is `lead` points above the baseline's, and return its folder."""
    rows = []
    for task in range(20):
        rows.append(trial_row("base", task, metrics={"score": 10.0 + task % 5}))
        rows.append(trial_row("better", task, metrics={"score": 10.0 + task % 5 + lead + (task * 5 % 3) / 10}))
    return str(write_run(lab.home / name, rows, primary=["score"]))


def test_exit_code_is_the_verdict_and_only_a_pass_is_applied(lab: Lab) -> None:
    with small_service() as service:
        plan = lab.home / "plan.yaml"
        changed = {"flow_policy": "fixed", "conc_cap": CONC_CAP, "routing_mode": "keep"}
        plan.write_text(yaml.safe_dump({"base_url": service.url, "experiment": changed}))
        command = ("rollout", "from-experiment", "--config", str(plan), "--headless")

        assert "- Decision: FAIL" in lab.run(*command, run_of(lab, "worse", -2), code=1).out
        assert "- Decision: EDGE" in lab.run(*command, run_of(lab, "same", -0.1), code=2).out
        better = run_of(lab, "better", 2)
        assert "- Decision: PASS" in lab.run(*command, better, "--dry-run").out
        assert service.changes == []

        answer = lab.run(*command, better, "--json").json

        assert answer["rollout"]["application"]["applied"]
        assert not answer["is_repeat"]
        assert service.flags.control.max_concurrency == CONC_CAP
        assert "No language model" in lab.run("rollout", "comment", answer["rollout"]["rollout_id"], code=69).err
        again = lab.run(*command, better)
        assert "nothing was done" in again.err
        lab.run("rollout", "rollback", answer["rollout"]["rollout_id"])
        assert service.flags == ServiceFlags()
        assert "rolled back this change" in lab.run(*command, better, code=1).err


def test_errors_have_exit_code_64_and_say_what_to_do(lab: Lab) -> None:
    run = run_of(lab, "better", 2)
    flag = ("--flag", "agent.prompt", "--a", "off", "--b", "on")

    assert "lab flags set" in lab.run("rollout", "from-experiment", run, *flag, code=64).err
    assert "no variant 'best'" in lab.run("rollout", "from-experiment", run, *flag, "--variant", "best", code=64).err
    assert "There is no run" in lab.run("rollout", "from-experiment", "absent", *flag, code=64).err
    assert "--config PLAN" in lab.run("rollout", "from-experiment", run, "--flag", "agent.prompt", code=64).err
