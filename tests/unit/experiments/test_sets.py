"""Sets of experiments: how a set is found by its id or its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.experiments.sets import RECORD, find_set


@pytest.mark.parametrize("named", ["b", "../b", ".lab/sets/b", "../../../.lab/sets/b"])
def test_set_is_found_by_its_id_and_by_any_path_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    for name in ("a", "b"):
        (tmp_path / ".lab" / "sets" / name).mkdir(parents=True)
        (tmp_path / ".lab" / "sets" / name / RECORD).touch()
    monkeypatch.chdir(tmp_path / ".lab" / "sets" / "a" if named.startswith("..") else tmp_path)

    assert find_set(tmp_path, Path(named)) == tmp_path / ".lab" / "sets" / "b"
    assert find_set(tmp_path, Path("c")) is None
