"""Views of single trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.experiments.errors import RunDamagedError
from relab.experiments.results.trial_views import changes_of, document_of
from relab.experiments.trial.evidence import STORE
from relab.experiments.trial.trial_folder import TrialFolder


@pytest.mark.parametrize(
    "text", ["[", "[]", "7", '{"added": null}', '{"removed": {}}', '{"modified": [null]}', '{"added": [{"path": "a"}]}']
)
def test_damaged_record_of_changed_files_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / STORE / "changes.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    entry = {"evidence": {"paths": {"diff_incremental": f"{STORE}/changes.json"}}}

    with pytest.raises(RunDamagedError, match=r"changes\.json"):
        changes_of(tmp_path, entry)


def test_document_that_contains_the_deepest_accepted_value_is_read(tmp_path: Path) -> None:
    (tmp_path / "trial_output.json").write_text(
        '{"ext": {"harness_output": {"answer": ' + "[" * 199 + "]" * 199 + "}}}"
    )

    assert document_of(TrialFolder(tmp_path), "trial_output.json") is not None
