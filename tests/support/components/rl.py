"""The extra `[rl]`: `make test` runs without it, `make test-long` installs it."""

from __future__ import annotations

import importlib.util
import os
from typing import Final

import pytest

_IS_REQUIRED: Final = os.environ.get("RELAB_REQUIRE_RL") == "1"


def has_rl() -> bool:
    """Return whether the extra is installed."""
    return all(importlib.util.find_spec(name) for name in ("torch", "stable_baselines3", "gymnasium", "safetensors"))


def require_rl() -> None:
    """Return if the extra is installed; else skip the test, or fail it in `make test-long`."""
    if has_rl():
        return
    message = "[rl] is missing; install it with: make install-rl"
    if _IS_REQUIRED:
        pytest.fail(message)
    pytest.skip(message)
