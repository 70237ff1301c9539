"""The runbook library: the shipped runbooks, replaced or extended by a folder's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relab.bootstrap import Services
from relab.core.errors import ConfigurationError
from relab.knowledge.errors import RunbookFolderError
from relab.knowledge.library import MAX_FILES, folder_shelf, load_library, shipped_shelf
from relab.knowledge.writing import write_runbook
from support.incidents.runbooks import runbook


def put(folder: Path, name: str, cause: str, **changed: object) -> Path:
    path = folder / name
    path.write_text(write_runbook(runbook(cause, **changed)))
    return path


def test_shipped_runbooks_are_valid_and_have_one_cause_each() -> None:
    library = load_library()

    assert library.problems == ()
    assert [each.cause for each in library.runbooks] == sorted({each.cause for each in shipped_shelf().runbooks})
    assert library.replaced == ()


def test_folder_replaces_and_adds_runbooks(tmp_path: Path) -> None:
    shipped = load_library().runbooks[0]
    replaced = put(tmp_path, "mine.md", shipped.cause, title="Ours")
    added = put(tmp_path, "new.md", "quite_another_cause")
    (tmp_path / "notes.txt").write_text("no runbook")
    (tmp_path / "deeper").mkdir()
    put(tmp_path / "deeper", "deep.md", "deep_cause")

    library = load_library(tmp_path)

    assert library.problems == ()
    assert library.replaced == (shipped.cause,)
    found, new = library.get(shipped.cause), library.get("quite_another_cause")
    assert found is not None
    assert new is not None
    assert found.title == "Ours"
    assert found.source == str(replaced)
    assert new.source == str(added)
    assert len(library.runbooks) == len(load_library().runbooks) + 1
    assert library.get("deep_cause") is None


def test_invalid_file_is_left_out_and_reported(tmp_path: Path) -> None:
    shipped = load_library().runbooks[0]
    wrong = put(tmp_path, "wrong.md", shipped.cause)
    wrong.write_text(wrong.read_text().replace("risk: ", "risky: "))
    put(tmp_path, "right.md", "another_cause")
    (tmp_path / "folder.md").mkdir()

    library = load_library(tmp_path)

    places = [place for place, _ in library.problems]
    assert any(place.startswith(f"{wrong}:") for place in places)
    assert any("folder.md" in place for place in places)
    assert library.get("another_cause") is not None
    assert library.get(shipped.cause) == shipped, "the shipped one goes on being used"


def test_first_of_two_files_with_one_cause_is_used_and_the_other_reported(tmp_path: Path) -> None:
    first, second = (put(tmp_path, name, "one_cause") for name in ("a.md", "b.md"))

    library = load_library(tmp_path)

    found = library.get("one_cause")
    assert found is not None
    assert found.source == str(first)
    assert library.problems == ((str(second), f"has the cause 'one_cause' of {first}, and is left out"),)


def test_missing_or_too_large_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(RunbookFolderError) as caught:
        load_library(tmp_path / "absent")
    assert "No such file" in caught.value.message
    assert "RUNBOOKS_PATH" in caught.value.remedy
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number}.md").touch()
    with pytest.raises(RunbookFolderError, match="1,001 files"):
        folder_shelf(tmp_path)


def test_excluded_causes_are_in_no_folder(tmp_path: Path) -> None:
    first, second = (runbook.cause for runbook in load_library().runbooks[:2])
    put(tmp_path, "mine.md", first)

    library = load_library(tmp_path, without=[first, "no_such_cause"])

    assert library.get(first) is None
    assert library.get(second) is not None
    assert len(library.runbooks) == len(load_library().runbooks) - 1


def test_excluded_cause_without_a_runbook_is_a_configuration_error(
    make_services: Callable[..., Services], tmp_path: Path
) -> None:
    put(tmp_path, "ours.md", "cause_of_ours")
    (tmp_path / "mended_tomorrow.md").write_text("---\ncause: 3\n---\n")

    def check(*causes: str) -> None:
        make_services(runbooks_path=tmp_path, incidents={"excluded_runbooks": causes}).knowledge.check()

    check("connection_pool_leak", "cause_of_ours", "mended_tomorrow")
    with pytest.raises(ConfigurationError) as raised:
        check("conection_pool_leak", "cause_of_ours", "db_pool")

    assert raised.value.message == (
        "RELAB_INCIDENTS__EXCLUDED_RUNBOOKS names causes that no runbook has: "
        "'conection_pool_leak' (did you mean 'connection_pool_leak'?), 'db_pool'."
    )
    assert raised.value.remedy == "Use the causes that `lab knowledge list` prints."
