"""Plans and search files in the documentation of rollouts: each one is valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import relab
from relab.rollouts.plans.reading import parse_plan
from relab.rollouts.search.spec import read_search

DOCUMENT = Path(relab.__file__).parent.parent.parent / "docs" / "rollouts.md"
FILES = re.findall(r"^```yaml\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
SEARCHES = [text for text in FILES if text.startswith("plan:")]
PLANS = [text for text in FILES if text not in SEARCHES]


def test_documentation_contains_at_least_two_plans() -> None:
    assert len(PLANS) >= 2


@pytest.mark.parametrize("text", PLANS)
def test_plan_is_valid(text: str) -> None:
    assert parse_plan(text, "docs/rollouts.md").experiment.window_sec > 0


@pytest.mark.parametrize("text", SEARCHES)
def test_search_file_is_valid(text: str, tmp_path: Path) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(text)

    assert read_search(path).candidates == 12
