"""`lab rollout` as a user runs it, against a small service: exit codes, output, the printed commands."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from relab.flags.models import ServiceFlags
from support.lab.cli import Lab
from support.rollouts.plans import CONC_CAP, faster_b, plan_document, slower_b
from support.rollouts.small_service import SmallService, small_service


@pytest.fixture
def service() -> Iterator[SmallService]:
    with small_service() as started:
        yield started


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, {})


def plan_file(lab: Lab, service: SmallService, **fields: Any) -> str:
    path = lab.home / "plan.yaml"
    path.write_text(yaml.safe_dump(plan_document(service.url, lab.home, **fields)))
    return str(path)


def run_printed(command: str) -> None:
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


def test_pass_is_applied_and_the_printed_rollback_undoes_it(lab: Lab, service: SmallService) -> None:
    service.delay_s = faster_b
    plan = plan_file(lab, service)

    outcome = lab.run("rollout", "run", "--config", plan, "--policy", "seed")

    assert "- Decision: PASS" in outcome.out
    assert "read back" in outcome.out
    assert (lab.home / "reports" / "summary.txt").read_text() == outcome.out
    assert service.report["message"].startswith("PASS")
    assert "window 4/4" in outcome.err
    assert service.flags.control.max_concurrency == CONC_CAP
    rollback = outcome.out.partition("ROLLBACK\n")[2]
    assert rollback.startswith(f"curl -X POST {service.url}/ops/flags")

    run_printed(rollback)

    assert service.flags == ServiceFlags()


def test_fail_has_exit_code_1(lab: Lab, service: SmallService) -> None:
    service.delay_s = slower_b

    outcome = lab.run("rollout", "run", "--config", plan_file(lab, service), "--headless", code=1)

    assert "- Decision: FAIL" in outcome.out
    assert outcome.err == ""
    assert service.flags == ServiceFlags()


def test_edge_has_exit_code_2_and_a_person_applies_it(lab: Lab, service: SmallService) -> None:
    service.delay_s = faster_b
    plan = plan_file(lab, service)

    outcome = lab.run("rollout", "run", "--config", plan, "--headless", "--json", code=2)
    record = outcome.json["rollout"]
    assert record["judgement"]["verdict"] == "EDGE"
    assert service.flags == ServiceFlags()

    applied = lab.run("rollout", "apply", record["rollout_id"], "--note", "I know why.")
    assert applied.out.startswith("Applied by ")
    assert service.flags.control.max_concurrency == CONC_CAP

    lab.run("rollout", "rollback", record["rollout_id"])
    assert service.flags == ServiceFlags()
    shown = lab.run("rollout", "show", record["rollout_id"]).out
    assert "applied by " in shown
    assert "I know why." in shown
    assert "rolled_back by " in shown


def test_dry_run_prints_the_changes_and_makes_none(lab: Lab, service: SmallService) -> None:
    outcome = lab.run("rollout", "run", "--config", plan_file(lab, service), "--dry-run")

    assert "Nothing was changed or measured." in outcome.out
    assert str(CONC_CAP) in outcome.out
    assert service.changes == []


def test_unhealthy_target_has_exit_code_69(lab: Lab, service: SmallService) -> None:
    service.unhealthy.add("redis")

    outcome = lab.run("rollout", "run", "--config", plan_file(lab, service), code=69)

    assert "redis" in outcome.err
    assert service.changes == []


def test_invalid_plan_has_exit_code_64_and_names_the_line(lab: Lab, service: SmallService) -> None:
    plan = plan_file(lab, service, experiment__knob=1)

    outcome = lab.run("rollout", "run", "--config", plan, code=64)

    assert "plan.yaml:" in outcome.err
    assert "experiment.knob" in outcome.err


def test_init_writes_a_plan_that_is_valid(lab: Lab, service: SmallService) -> None:
    lab.run("rollout", "init", "mine.yaml")

    assert "mine.yaml" in lab.run("rollout", "init", "mine.yaml", code=64).err
    record = lab.json("rollout", "run", "--config", "mine.yaml", "--base-url", service.url, "--dry-run")["rollout"]
    assert record["plan"]["base_url"] == service.url
    assert record["error"] is None


def test_list_shows_every_rollout_newest_first(lab: Lab, service: SmallService) -> None:
    plan = plan_file(lab, service)
    first = lab.json("rollout", "run", "--config", plan, "--dry-run")["rollout"]["rollout_id"]
    second = lab.json("rollout", "run", "--config", plan, "--dry-run")["rollout"]["rollout_id"]

    listed = lab.json("rollout", "list", "--limit", "1")

    assert [item["rollout_id"] for item in listed["items"]] == [second]
    older = lab.json("rollout", "list", "--before", listed["next_before"])
    assert [item["rollout_id"] for item in older["items"]] == [first]


def test_history_has_every_rollout_and_detects_an_edit(lab: Lab, service: SmallService) -> None:
    plan = plan_file(lab, service)
    for _ in range(2):
        lab.run("rollout", "run", "--config", plan, "--headless", code=None)
    history = lab.home / "state" / "history.jsonl"

    assert len(lab.json("rollout", "history", "--config", plan)["entries"]) == 2

    history.write_text(history.read_text().replace('"returncode":0', '"returncode":9', 1))
    edited = lab.run("rollout", "history", "--config", plan, code=1)
    assert "history.jsonl:1" in edited.err


def test_read_only_report_folder_is_an_error_before_anything_changes(lab: Lab, service: SmallService) -> None:
    plan = plan_file(lab, service)
    (lab.home / "reports").write_text("a file, and not a folder")

    outcome = lab.run("rollout", "run", "--config", plan, "--headless", code=69)

    assert "reports" in outcome.err
    assert service.changes == []


def test_unknown_rollout_is_an_error(lab: Lab) -> None:
    assert "There is no rollout" in lab.run("rollout", "show", "nothing", code=1).err


def test_root_cause_analysis_explains_a_failed_rollout(lab: Lab, service: SmallService) -> None:
    service.delay_s = slower_b
    plan = plan_file(lab, service)
    record = lab.run("rollout", "run", "--config", plan, "--headless", "--json", code=1).json["rollout"]

    report = lab.run("rca", f"rollout.{record['rollout_id']}").out

    assert "judge" in report
    assert "P95" in report
