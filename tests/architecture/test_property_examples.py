"""Property tests: their examples do not depend on the test files that a process ran earlier."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis.internal.conjecture.providers import HypothesisProvider


@pytest.mark.skipif(not hypothesis.settings.default.derandomize, reason="examples are drawn at random")
def test_constants_of_loaded_modules_are_not_drawn() -> None:
    assert len(HypothesisProvider(None)._local_constants) == 0
