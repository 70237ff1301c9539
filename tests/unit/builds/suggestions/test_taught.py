"""Known failures that users add to an installation: they extend or replace the shipped ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.builds.suggestions.errors import KnownFailuresInvalidError
from relab.builds.suggestions.service import SuggestionRequest, answer, examine, known_failures, shipped_failures, teach

SECTION = "## Licence server\n- id: {id}\n- category: licence\n- sign: frobnicator has no licence\n\nRestart it.\n"
FAILED = SuggestionRequest(log="error: the frobnicator has no licence\n")


def written(folder: Path, text: str) -> Path:
    path = folder / "failure.md"
    path.write_text(text)
    return path


def test_taught_failure_is_suggested(tmp_path: Path) -> None:
    failure, path = teach(written(tmp_path, SECTION.format(id="licence")), tmp_path / "own")

    suggestion = answer(examine(FAILED, known_failures(tmp_path / "own")))

    assert not answer(examine(FAILED, shipped_failures())).is_known
    assert suggestion.incident == failure.id == "licence"
    assert suggestion.suggestion == "Restart it."
    assert path == tmp_path / "own" / "licence.md"


def test_taught_failure_replaces_the_shipped_one_with_its_id(tmp_path: Path) -> None:
    teach(written(tmp_path, SECTION.format(id="disk_full")), tmp_path / "own")

    found = known_failures(tmp_path / "own")

    assert len(found) == len(shipped_failures())
    assert answer(examine(FAILED, found)).incident == "disk_full"


def test_taught_failure_is_replaced_only_on_request(tmp_path: Path) -> None:
    path = written(tmp_path, SECTION.format(id="licence"))
    teach(path, tmp_path / "own")

    with pytest.raises(KnownFailuresInvalidError, match="exists already"):
        teach(path, tmp_path / "own")
    teach(path, tmp_path / "own", replace=True)


def test_missing_folder_has_only_the_shipped_failures(tmp_path: Path) -> None:
    assert known_failures(tmp_path / "none") == shipped_failures()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nothing", "has 0 sections"),
        (SECTION.format(id="a") + SECTION.format(id="b"), "has 2 sections"),
        (SECTION.format(id="../x"), "'../x' is invalid"),
        ("## A\n- id: a\n", "has no category"),
        ("## ", "has no id"),
        ("x" * 300_000, "larger than"),
    ],
)
def test_invalid_file_is_named_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(KnownFailuresInvalidError, match=reason) as caught:
        teach(written(tmp_path, text), tmp_path / "own")

    assert "failure.md" in str(caught.value)
    assert not (tmp_path / "own").exists()
