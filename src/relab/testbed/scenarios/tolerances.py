"""Check whether the output of a probe is within its tolerance, by chaostoolkit's rules; if not, return the reason."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from relab.testbed.scenarios.jsonpath import parse_path
from relab.testbed.scenarios.models import JsonPathTolerance, RangeTolerance, RegexTolerance
from relab.testbed.scenarios.variables import Variables

_SHOWN: Final = 120
_PAIR: Final = 2


def why_not_within(tolerance: Any, output: Any, variables: Variables) -> str | None:
    """Return the reason why the output of a probe is not within a tolerance (a condition); None if it is within.

    Args:
        tolerance: the tolerance of a probe: a value, a list, or one of the tolerance classes.
        output: the output of the probe, such as `{status, headers, body}` of an HTTP request.
        variables: the values that replace `${name}` in a text, a pattern, a path or an expected value, but not in a
            list of values.

    Raises:
        ValueError: a pattern or path is invalid after the replacement of variables.
    """
    if isinstance(tolerance, RegexTolerance):
        return _regex(tolerance, output, variables)
    if isinstance(tolerance, JsonPathTolerance):
        return _jsonpath(tolerance, output, variables)
    if isinstance(tolerance, RangeTolerance):
        return _range(tolerance, output)
    wanted = variables.fill(tolerance) if isinstance(tolerance, str) else tolerance
    if isinstance(output, dict) and "status" in output and not isinstance(wanted, bool | str):
        output = output["status"]
        return None if output in (wanted if isinstance(wanted, list) else [wanted]) else _differs(output, wanted)
    if isinstance(wanted, list) and len(wanted) == _PAIR and all(map(_is_number, (*wanted, output))):
        return None if wanted[0] <= output <= wanted[1] else _differs(output, wanted)
    is_within = output in wanted if isinstance(wanted, list) else output == wanted
    return None if is_within else _differs(output, wanted)


def _regex(tolerance: RegexTolerance, output: Any, variables: Variables) -> str | None:
    value, pattern = _target(output, tolerance.target), str(variables.fill(tolerance.pattern))
    if not isinstance(value, str):
        return f"{_shown(value)} is not a string"
    try:
        is_found = re.search(pattern, value) is not None
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return None if is_found else f"{_shown(value)} does not match {pattern!r}"


def _jsonpath(tolerance: JsonPathTolerance, output: Any, variables: Variables) -> str | None:
    value, path = _target(output, tolerance.target), str(variables.fill(tolerance.path))
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return f"{_shown(value)} is not JSON"
    found = parse_path(path).find(value)
    if "expect" in tolerance.model_fields_set:
        expected = variables.fill(tolerance.expect)
        expected = expected if isinstance(expected, list) else [expected]
        return None if found == expected else f"{path} is {_shown(found)}, and not {_shown(expected)}"
    if tolerance.count is not None:
        return None if len(found) == tolerance.count else f"{path} finds {len(found)}, and not {tolerance.count}"
    return None if found else f"{path} finds nothing in {_shown(value)}"


def _range(tolerance: RangeTolerance, output: Any) -> str | None:
    value = _target(output, tolerance.target)
    try:
        number = Decimal(value) if isinstance(value, str | int | float) else None
    except InvalidOperation:
        number = None
    if number is None or number.is_nan():
        return f"{_shown(value)} is not a number"
    low, high = tolerance.range
    return None if Decimal(low) <= number <= Decimal(high) else f"{value} is not {low:g} to {high:g}"


def _target(output: Any, target: str | None) -> Any:
    return output.get(target, output) if target is not None and isinstance(output, dict) else output


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _differs(output: Any, wanted: Any) -> str:
    return f"{_shown(output)} is not {_shown(wanted)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
