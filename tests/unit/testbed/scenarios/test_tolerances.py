"""Tolerances of probes: the same verdicts as chaostoolkit's, with the reason for a deviation."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from relab.testbed.scenarios.models import Tolerance
from relab.testbed.scenarios.tolerances import why_not_within
from relab.testbed.scenarios.variables import Variables
from support.components.chaostoolkit import require_chaoslib

ANSWER = {"status": 200, "headers": {"Server": "shop"}, "body": {"error_rate": 0.4, "state": "up"}}
VARIABLES = Variables({"state": "up", "most": 1})

CASES: list[tuple[Any, Any, bool]] = [
    (200, ANSWER, True),
    (201, ANSWER, False),
    ([200, 404], ANSWER, True),
    ([201, 404], ANSWER, False),
    (True, True, True),
    (True, False, False),
    ("up", "up", True),
    ("${state}", "up", True),
    ("${state}", "down", False),
    ([1, 5], 3, True),
    ([1, 5], 7, False),
    ([1, 3, 5], 3, True),
    ([1, 3, 5], 4, False),
    ({"type": "regex", "pattern": "^sh", "target": "body"}, {"status": 200, "body": "shop"}, True),
    ({"type": "regex", "pattern": "^${state}$"}, "up", True),
    ({"type": "regex", "pattern": "^${state}$"}, "upper", False),
    ({"type": "range", "range": [0, 1]}, 0.5, True),
    ({"type": "range", "range": [0, 1]}, "0.5", True),
    ({"type": "range", "range": [0, 1]}, "much", False),
    ({"type": "range", "range": [200, 299], "target": "status"}, ANSWER, True),
    ({"type": "range", "range": [201, 299], "target": "status"}, ANSWER, False),
    ({"type": "jsonpath", "path": "$.state", "target": "body"}, ANSWER, True),
    ({"type": "jsonpath", "path": "$.absent", "target": "body"}, ANSWER, False),
    ({"type": "jsonpath", "path": "$.state", "target": "body", "expect": "${state}"}, ANSWER, True),
    ({"type": "jsonpath", "path": "$.state", "target": "body", "expect": ["down"]}, ANSWER, False),
    ({"type": "jsonpath", "path": "$.*", "target": "body", "count": 2}, ANSWER, True),
    ({"type": "jsonpath", "path": "$.*", "target": "body", "count": 1}, ANSWER, False),
    ({"type": "jsonpath", "path": "$[?(@.error_rate < ${most})]", "target": "body"}, ANSWER, True),
    ({"type": "jsonpath", "path": "$.state", "target": "body"}, {"status": 200, "body": '{"state": "up"}'}, True),
]


@pytest.mark.parametrize(("written", "output", "is_within"), CASES, ids=range(len(CASES)))
def test_output_is_within_its_tolerance_or_has_a_reason(written: Any, output: Any, is_within: bool) -> None:
    tolerance = TypeAdapter[Any](Tolerance).validate_python(written)

    why = why_not_within(tolerance, output, VARIABLES)

    assert (why is None) is is_within, why


def test_verdicts_agree_with_chaostoolkit() -> None:
    require_chaoslib()
    from chaoslib.hypothesis import substitute, within_tolerance

    for written, output, is_within in CASES:
        # chaostoolkit substitutes variables in a text before it checks the tolerance.
        wanted = substitute(written, VARIABLES.values, {}) if isinstance(written, str) else written
        assert within_tolerance(wanted, output, dict(VARIABLES.values), {}) is is_within, written


@pytest.mark.parametrize(
    ("written", "output", "said"),
    [
        (200, {"status": 503, "body": "out"}, "503 is not 200"),
        ({"type": "regex", "pattern": "x", "target": "body"}, ANSWER, "is not a string"),
        ({"type": "jsonpath", "path": "$.state", "target": "body"}, {"status": 1, "body": "<p>"}, "is not JSON"),
        ({"type": "jsonpath", "path": "$.state", "target": "body", "expect": "down"}, ANSWER, '["up"], and not ["down"]'),
        ({"type": "range", "range": [0, 0.1]}, 0.4, "0.4 is not 0 to 0.1"),
        (True, {"status": 200}, "is not true"),
    ],
)  # fmt: skip
def test_reason_names_the_value(written: Any, output: Any, said: str) -> None:
    tolerance = TypeAdapter[Any](Tolerance).validate_python(written)

    assert said in str(why_not_within(tolerance, output, VARIABLES))


def test_pattern_that_a_variable_makes_invalid_is_a_value_error() -> None:
    tolerance = TypeAdapter[Any](Tolerance).validate_python({"type": "regex", "pattern": "${state}"})

    with pytest.raises(ValueError, match="is not a regular expression"):
        why_not_within(tolerance, "up", Variables({"state": "("}))
