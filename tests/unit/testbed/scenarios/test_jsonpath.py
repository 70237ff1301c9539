"""JSON paths: the same matches as with chaostoolkit's library, and errors for unsupported syntax."""

from __future__ import annotations

from typing import Any

import pytest

from relab.testbed.scenarios.jsonpath import parse_path
from support.components.chaostoolkit import require_chaoslib

DOCUMENT: dict[str, Any] = {
    "health_status": "healthy",
    "error_rate": 0.5,
    "nothing": None,
    "open": True,
    "pool": {"used": 3, "max": 15},
    "workers": [{"worker": 1, "state": "running"}, {"worker": 2, "state": "down"}],
}
PATHS = [
    ("$.health_status", ["healthy"]),
    ('$["health_status"]', ["healthy"]),
    ("$.pool.used", [3]),
    ("$.pool.*", [3, 15]),
    ("$.workers[*].state", ["running", "down"]),
    ("$.workers[1].worker", [2]),
    ("$.workers[-1].state", ["down"]),
    ("$.workers[2]", []),
    ("$.workers[-3]", []),
    ("$.absent.more", []),
    ("$.health_status.length", []),
    ("$[?(@.error_rate < 1)].error_rate", [0.5]),
    ("$[?(@.error_rate<0.5)]", []),
    ("$[?(@.error_rate <= 0.5 and @.pool.used > 2)].pool.used", [3]),
    ('$[?(@.error_rate > 1 or @.health_status = "healthy")].health_status', ["healthy"]),
    ('$[?(@.health_status != "critical")].error_rate', [0.5]),
    ("$[?(@.absent)].error_rate", []),
    ("$[?(@.absent != 3)].error_rate", []),
    ("$[?(@.open = true)].error_rate", [0.5]),
    ("$[?(@.nothing = null)].error_rate", [0.5]),
    ("$[?(@.nothing < 1)].error_rate", []),
    ("$[?(@.health_status < 1)]", []),
    ('$.workers[*][?(@.state = "down")].worker', [2]),
    ("$[?(@.workers[*].worker >= 2)].error_rate", [0.5]),
    ("$.pool[?(@.used < 5)].max", [15]),
]


@pytest.mark.parametrize(("path", "found"), PATHS)
def test_path_finds_the_expected_values(path: str, found: list[Any]) -> None:
    assert parse_path(path).find(DOCUMENT) == found


def test_paths_agree_with_chaostoolkit() -> None:
    require_chaoslib()
    from jsonpath2.path import Path

    for path, found in PATHS:
        assert [match.current_value for match in Path.parse_str(path).match(DOCUMENT)] == found, path


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "'$' is expected"),
        ("health_status", "'$' is expected"),
        ("$.", "a name or * is expected"),
        ("$..state", "'..' is not understood here"),
        ("$['state']", "is not understood here"),
        ("$[1:2]", "is not understood here"),
        ("$[1.5]", "a number"),
        ("$[1", "']' is expected"),
        ("$[?(@.a < )]", "a number"),
        ("$[?(@.a < 1]", "')]' is expected"),
        ("$[?(1 < @.a)]", "'@' is expected"),
        ("$.a b", "'b' is not understood here"),
    ],
)
def test_invalid_path_is_rejected_with_its_place(path: str, said: str) -> None:
    with pytest.raises(ValueError, match="the path") as caught:
        parse_path(path)

    assert said in str(caught.value)
