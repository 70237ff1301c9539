"""What was run, with what: the manifest, the state of git, the attestation."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from relab.experiments.knobs import Override
from relab.experiments.provenance import attestation, git_state, run_manifest


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


def test_a_clean_checkout(checkout: Path) -> None:
    assert git_state(checkout) == {"sha": git(checkout, "rev-parse", "HEAD"), "dirty": False}


def test_a_changed_checkout(checkout: Path) -> None:
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


def test_no_checkout_and_one_without_a_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    assert git_state(tmp_path / "none") is None
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None


def test_no_git_at_all(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_no_program_of_the_projects_settings_is_run(checkout: Path, tmp_path: Path) -> None:
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


def test_a_manifest_tells_how_a_run_was_started(checkout: Path) -> None:
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

    assert (found["schema_version"], found["run_id"]) == ("manifest_v1", "run_1")
    assert found["resolved_experiment"] == {"digest": "sha256:1"}
    assert found["ext"]["overrides"] == [override.model_dump()]
    assert (found["ext"]["command"], found["ext"]["snapshot"]) == ("run-dev", "sha256:2")
    assert found["image_digest"] == "sha256:3"
    assert found["git"]["dirty"] is False


@pytest.mark.parametrize(("level", "hooks"), [("cli_basic", None), ("cli_events", "hook_events_v1")])
def test_an_attestation_has_the_contracts_fields(level: str, hooks: str | None) -> None:
    entries = [
        {"row": {"trial_id": "trial_1", "outcome": "success"}, "head": "sha256:1"},
        {"row": {"trial_id": "trial_2", "outcome": "error"}, "head": "sha256:2"},
        {"row": {"trial_id": "trial_3", "outcome": "missing"}},
        {"row": {"trial_id": "trial_4", "outcome": "success"}, "head": "sha256:4"},
    ]
    found = attestation(
        run_id="run_1", digest="sha256:9", entries=iter(entries), identity={"x": 1}, image_digest=None, level=level
    )

    assert found["resolved_experiment_digest"] == "sha256:9"
    assert [link["trial_id"] for link in found["events_hashchain"]] == ["trial_1", "trial_2", "trial_4"]
    assert found["grades_summary"] == {"error": 1, "missing": 1, "success": 2}
    assert found.get("hooks_schema_version") == hooks
    assert "image_digest" not in found
