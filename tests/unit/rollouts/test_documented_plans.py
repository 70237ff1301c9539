"""Every plan in the documentation of rollouts is valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import relab
from relab.rollouts.plans.reading import parse_plan

DOCUMENT = Path(relab.__file__).parent.parent.parent / "docs" / "rollouts.md"
PLANS = re.findall(r"^```yaml\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


def test_document_has_plans() -> None:
    assert len(PLANS) >= 2


@pytest.mark.parametrize("text", PLANS)
def test_plan_is_valid(text: str) -> None:
    assert parse_plan(text, "docs/rollouts.md").experiment.window_sec > 0
