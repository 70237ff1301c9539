"""Provenance of a run: its manifest, the state of git, and the attestation with its grades."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.config.knobs import Override
from relab.experiments.errors import RunDamagedError
from relab.experiments.records.journal_lines import Head
from relab.experiments.records.run_folder import RunFolder
from relab.experiments.records.seals import read_attestation
from relab.experiments.results.grades import TrialTally
from relab.experiments.results.provenance import attestation, git_state, run_manifest
from support.experiments.configs import config
from support.experiments.documents import check_document as registry_check

DIGEST = "sha256:" + "1" * 64


def git(root: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "-q")
    (root / "a.txt").write_text("one\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def test_clean_checkout_is_not_dirty(checkout: Path) -> None:
    assert git_state(checkout) == {"sha": git(checkout, "rev-parse", "HEAD"), "dirty": False}


def test_changed_checkout_is_dirty_and_has_a_digest_of_its_diff(checkout: Path) -> None:
    (checkout / "new").write_text("x")
    assert git_state(checkout) == {"sha": git(checkout, "rev-parse", "HEAD"), "dirty": True}

    (checkout / "a.txt").write_text("two\n")
    first = git_state(checkout)
    (checkout / "a.txt").write_text("three\n")
    second = git_state(checkout)
    assert first is not None
    assert second is not None
    assert first["diff_digest"].startswith("sha256:")
    assert first["diff_digest"] != second["diff_digest"]


def test_folder_without_a_commit_has_no_git_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    assert git_state(tmp_path / "none") is None
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None


def test_git_state_is_absent_without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/none")

    assert git_state(checkout) is None


def test_variables_of_git_name_no_other_checkout(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = git(checkout, "rev-parse", "HEAD")
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))

    found = git_state(checkout)
    assert found is not None
    assert found["sha"] == sha


def test_programs_in_the_git_settings_of_a_project_are_not_run(checkout: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    program = tmp_path / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {proof}\n")
    program.chmod(0o755)
    for name in ("diff.external", "core.fsmonitor", "diff.mine.textconv", "diff.mine.command", "core.pager"):
        git(checkout, "config", name, str(program))
    (checkout / ".git" / "info").mkdir(exist_ok=True)
    (checkout / ".git" / "info" / "attributes").write_text("*.txt diff=mine\n")
    (checkout / "a.txt").write_text("two\n")
    found = git_state(checkout)

    assert found is not None
    assert "diff_digest" in found
    assert not proof.exists()


def test_manifest_has_the_command_of_the_run(checkout: Path) -> None:
    override = Override(
        id="reps", json_pointer="/design/replications", value=1, previous=3, role="core", scientific_role="control"
    )
    found = run_manifest(
        run_id="run_1",
        created_at="2026-01-01T00:00:00Z",
        digest="sha256:1",
        root=checkout,
        command="run-dev",
        overrides=[override],
        facts={"snapshot": "sha256:2", "image_digest": "sha256:3"},
    )

    assert found["schema_version"] == "manifest_v1"
    assert found["run_id"] == "run_1"
    assert found["resolved_experiment"] == {"digest": "sha256:1"}
    assert found["ext"]["overrides"] == [override.model_dump()]
    assert found["ext"]["command"] == "run-dev"
    assert found["ext"]["snapshot"] == "sha256:2"
    assert found["image_digest"] == "sha256:3"
    assert found["git"]["dirty"] is False


def entry(number: int, outcome: str, **fields: Any) -> dict[str, Any]:
    row = {
        "trial_id": f"trial_{number}",
        "outcome": outcome,
        "network_mode_effective": "none",
        "violations": [],
        "has_hook_events": False,
        "event_counts": {},
    }
    found = {"row": row | fields}
    return found if outcome == "missing" else found | {"head": DIGEST, "evidence": {}}


def attested(entries: Sequence[dict[str, Any]], *, is_complete: bool = True, **fields: Any) -> dict[str, Any]:
    experiment = config(**fields)
    manifest = {"resolved_experiment": {"digest": DIGEST}, "ext": {"image_digest": DIGEST}}
    tally = TrialTally()
    for found in entries:
        tally.note(found)
    run = RunFolder(Path("run_1"), "run_1", experiment, manifest)
    document = attestation(run, tally, head=Head(4, "2" * 64), files={"a": DIGEST}, is_complete=is_complete)
    registry_check("attestation_v1", document)
    return document


FOUR = [entry(1, "success"), entry(2, "error"), entry(3, "missing"), entry(4, "success")]
TWO = [{"variant_id": "other", "bindings": {}}]


@pytest.mark.parametrize(("level", "hooks"), [("cli_basic", None), ("cli_events", "hook_events_v1")])
def test_attestation_has_the_fields_of_the_contract_and_counts_under_ext(level: str, hooks: str | None) -> None:
    found = attested(FOUR, runtime__harness={"command": ["x"], "integration_level": level})

    assert [link["trial_id"] for link in found["events_hashchain"]] == ["trial_1", "trial_2", "trial_4"]
    assert found["ext"]["outcomes"] == {"error": 1, "missing": 1, "success": 2}
    assert found["ext"]["journal"] == {"format": "journal_v2", "entries": 4, "head": "sha256:" + "2" * 64}
    assert found["ext"]["complete"] is True
    assert found["ext"]["files"] == {"a": DIGEST}
    assert found.get("hooks_schema_version") == hooks
    assert found["grades_summary"]["schema_version"] == "grades_v1"
    assert found["grades_summary"]["integration_level"] == level


@pytest.mark.parametrize(
    ("mode", "network", "violations", "policy", "grade"),
    [
        ("local", "full", [], "isolate_per_trial", "leaky"),
        ("bwrap", "none", [], "isolate_per_trial", "hermetic"),
        ("container", "none", [], "isolate_per_trial", "hermetic"),
        ("container", "allowlist_enforced", [], "isolate_per_trial", "bounded"),
        ("bwrap", "full", [], "isolate_per_trial", "bounded"),
        ("bwrap", "none", ["x"], "isolate_per_trial", "bounded"),
        ("bwrap", "none", [], "accumulate", "bounded"),
    ],
)
def test_isolation_grade_reflects_the_effective_isolation(
    mode: str, network: str, violations: list[str], policy: str, grade: str
) -> None:
    rows = [entry(1, "success", network_mode_effective=network, violations=violations)]
    found = attested(rows, runtime__sandbox={"mode": mode}, design={"policies": {"state": policy}})

    assert found["grades_summary"]["isolation_grade"] == grade


@pytest.mark.parametrize(
    ("entries", "complete", "comparison", "variants", "grade"),
    [
        (FOUR[:2], True, "paired", TWO, "valid_paired"),
        (FOUR[:2], True, "unpaired", TWO, "valid_unpaired"),
        (FOUR[:2], True, "none", TWO, "unknown"),
        (FOUR[:2], True, "paired", [], "unknown"),
        (FOUR[:2], False, "paired", TWO, "invalid"),
        (FOUR, True, "paired", TWO, "invalid"),
    ],
)
def test_comparability_grade_counts_trials_with_a_result(
    entries: list[dict[str, Any]], complete: bool, comparison: str, variants: list[dict[str, Any]], grade: str
) -> None:
    found = attested(entries, is_complete=complete, design={"comparison": comparison}, variant_plan=variants)

    assert found["grades_summary"]["comparability_grade"] == grade
    assert found["grades_summary"]["provenance_grade"] == ("recorded" if complete else "partial")


def test_attestation_that_was_changed_is_found(tmp_path: Path) -> None:
    document = attested(FOUR)
    path = tmp_path / "attestation.json"
    path.write_text(json.dumps(document))
    assert read_attestation(tmp_path) == document

    document["ext"]["outcomes"]["success"] = 3
    path.write_text(json.dumps(document))
    with pytest.raises(RunDamagedError, match="its seal does not match"):
        read_attestation(tmp_path)
    del document["ext"]["seal"]
    path.write_text(json.dumps(document))
    with pytest.raises(RunDamagedError, match="it has no seal"):
        read_attestation(tmp_path)
