"""Views of single trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.experiments.errors import RunDamagedError
from relab.experiments.results.trial_views import changes_of
from relab.experiments.trial.evidence import STORE


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
