"""Comparison of single files and folders of a run with its seal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relab.experiments.errors import RunDamagedError
from relab.experiments.proof.seal import write_seal
from relab.experiments.proof.sealed_paths import changed_since_seal

FILE, FOLDER, OTHER = "trials/trial_1/state/step-1", "trials/trial_1/out/model", "trials/trial_10/state/step-1"
ALL = {FILE, FOLDER, OTHER}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name in (FILE, f"{FOLDER}/a", f"{FOLDER}/deep/b", OTHER):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / FOLDER / "link").symlink_to("a")
    write_seal(tmp_path)
    return tmp_path


def _relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("deep")


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "file": (FILE, lambda run: (run / FILE).write_text(FILE[:-1] + "2")),
    "file in a folder": (FOLDER, lambda run: (run / FOLDER / "deep/b").write_text("")),
    "new file in a folder": (FOLDER, lambda run: (run / FOLDER / "deep/c").write_text("")),
    "deleted file in a folder": (FOLDER, lambda run: (run / FOLDER / "a").unlink()),
    "link in a folder": (FOLDER, lambda run: _relink(run / FOLDER / "link")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_path_is_found_and_no_other_one(run: Path, name: str) -> None:
    path, change = CHANGES[name]
    assert changed_since_seal(run, ALL) == set()

    change(run)

    assert changed_since_seal(run, ALL) == {path}


def test_path_that_was_added_after_the_seal_counts_as_changed(run: Path) -> None:
    (run / "trials/trial_1/state/step-2").write_text("new")

    assert changed_since_seal(run, {FILE, "trials/trial_1/state/step-2"}) == {"trials/trial_1/state/step-2"}


def test_run_without_a_seal_has_no_changes_and_a_changed_seal_is_damage(run: Path) -> None:
    seal = run / "seal.jsonl"
    raw = seal.read_bytes()
    seal.write_bytes(raw.replace(b"step-1", b"step-9"))
    with pytest.raises(RunDamagedError, match=r"seal\.jsonl"):
        changed_since_seal(run, ALL)

    seal.unlink()
    assert changed_since_seal(run, ALL) == set()
