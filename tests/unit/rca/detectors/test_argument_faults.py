"""Reading wrong arguments from the validation errors of common libraries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.rca.detectors.argument_faults import MAX_FAULTS, FaultKind, argument_faults
from support.telemetry.runs import examples

MISSING, UNEXPECTED, INVALID, UNKNOWN = (
    FaultKind.MISSING, FaultKind.UNEXPECTED, FaultKind.INVALID, FaultKind.UNKNOWN_TOOL,
)  # fmt: skip

ERRORS: dict[str, tuple[str, list[tuple[FaultKind, str]]]] = {
    "pydantic 2": (
        (
            "1 validation error for order_lookup\ncustomer_id\n  Field required [type=missing, input_value={'order_id': 'A-17'}, "
            "input_type=dict]\n    For further information visit https://errors.pydantic.dev/2.12/v/missing"
        ),
        [(MISSING, "customer_id")],
    ),
    "pydantic 2, two errors": (
        (
            "2 validation errors for M\nqty\n  Input should be a valid integer, unable to parse string as an integer "
            "[type=int_parsing, input_value='ten', input_type=str]\nfoo\n  Extra inputs are not permitted [type=extra_forbidden, "
            "input_value=1, input_type=int]"
        ),
        [(INVALID, "qty"), (UNEXPECTED, "foo")],
    ),
    "pydantic 2, nested": (
        "1 validation error for M\nitems.0.sku\n  Field required [type=missing, input_value={}, input_type=dict]",
        [(MISSING, "items.0.sku")],
    ),
    "pydantic 1": (
        "1 validation error for M\ncustomer_id\n  field required (type=value_error.missing)",
        [(MISSING, "customer_id")],
    ),
    "pydantic as JSON": (
        '[{"type":"missing","loc":["body","customer_id"],"msg":"Field required","input":{"order_id":"A-17"}}]',
        [(MISSING, "customer_id")],
    ),
    "pydantic as Python prints it": (
        (
            "[{'type': 'missing', 'loc': ('customer_id',), 'msg': 'Field required', 'input': {'order_id': 'A'}}, "
            "{'type': 'int_parsing', 'loc': ('qty',), 'msg': 'Input should be a valid integer', 'input': 'ten'}]"
        ),
        [(MISSING, "customer_id"), (INVALID, "qty")],
    ),
    "zod": (
        (
            'Error message: [\n  {\n    "expected": "string",\n    "code": "invalid_type",\n    "path": [\n      "customer_id"\n    ],\n'
            '    "message": "Invalid input: expected string, received undefined"\n  }\n]'
        ),
        [(MISSING, "customer_id")],
    ),
    "zod, an unknown key": (
        '[{"code":"unrecognized_keys","keys":["foo"],"path":[],"message":"Unrecognized key"}]',
        [(UNEXPECTED, "foo")],
    ),
    "jsonschema": ("'customer_id' is a required property", [(MISSING, "customer_id")]),
    "jsonschema, type": (
        (
            "5 is not of type 'string'\n\nFailed validating 'type' in schema['properties']['qty']:\n    {'type': 'string'}\n\n"
            "On instance['qty']:\n    5"
        ),
        [(INVALID, "qty")],
    ),
    "jsonschema, additional": ("Additional properties are not allowed ('foo' was unexpected)", [(UNEXPECTED, "foo")]),
    "ajv": ("data must have required property 'customer_id'", [(MISSING, "customer_id")]),
    "Python": (
        "TypeError: order_lookup() missing 1 required positional argument: 'customer_id'",
        [(MISSING, "customer_id")],
    ),
    "Python, two": ("f() missing 2 required positional arguments: 'a' and 'b'", [(MISSING, "a"), (MISSING, "b")]),
    "DSPy, unexpected": ("Arg city is not in the tool's args.", [(UNEXPECTED, "city")]),
    "DSPy, invalid": ("Arg count is invalid: 'five' is not of type 'integer'", [(INVALID, "count")]),
    "Python, unexpected": ("f() got an unexpected keyword argument 'foo'", [(UNEXPECTED, "foo")]),
    "words": ("Argument customer_id is required", [(MISSING, "customer_id")]),
    "words of the seed": ("Missing required field: 'customer_id'. API schema updated", [(MISSING, "customer_id")]),
    "words, a range": ("parameter 'limit' must be between 1 and 50", [(INVALID, "limit")]),
    "unknown tool": ("Unknown tool: find_order", [(UNKNOWN, "find_order")]),
    "tool not found": ("Tool 'find_order' not found", [(UNKNOWN, "find_order")]),
    "no name": ("missing 1 required argument", []),
    "another error": ("no such table: orders", []),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error_names_its_arguments(name: str) -> None:
    text, expected = ERRORS[name]
    faults = argument_faults(text)

    assert [(fault.kind, fault.name) for fault in faults] == expected
    for fault in faults:
        assert text[fault.start : fault.end] == fault.name
        assert fault.demand is None or fault.demand in text


@given(st.text(max_size=60) | st.sampled_from([text for text, _ in ERRORS.values()]), st.integers(1, 400))
@examples(150)
def test_any_text_is_read_in_bounds(text: str, times: int) -> None:
    repeated = text * times
    faults = argument_faults(repeated)

    assert len(faults) <= MAX_FAULTS
    for fault in faults:
        assert repeated[fault.start : fault.end] == fault.name


@pytest.mark.parametrize(
    ("text", "is_nested"),
    [
        ("Missing required field 'items.0.sku'", True),
        ("invalid value for 'items[0]'", True),
        ("Missing required field 'sku'", False),
        ("Unknown tool: shop.order_lookup", False),
    ],
)
def test_argument_with_a_path_in_a_sentence_is_nested(text: str, is_nested: bool) -> None:
    (fault,) = argument_faults(text)

    assert fault.is_nested is is_nested
