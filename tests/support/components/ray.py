"""The extra `[ray]`: `make test` runs without it, `make test-long` installs it."""

from __future__ import annotations

import importlib.util
import os
from typing import Final

import pytest

_IS_REQUIRED: Final = os.environ.get("RELAB_REQUIRE_RAY") == "1"


def require_ray() -> None:
    """Return if the extra is installed; else skip the test, or fail it in `make test-long`."""
    if importlib.util.find_spec("ray") is not None:
        return
    message = "[ray] is missing; install it with: make install-ray"
    if _IS_REQUIRED:
        pytest.fail(message)
    pytest.skip(message)
