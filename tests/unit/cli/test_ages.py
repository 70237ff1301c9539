"""Ages on the command line, as in `30d`: a number and a unit; other texts are rejected."""

from __future__ import annotations

import pytest

from relab.cli.retention import parse_age_us
from relab.core.errors import InvalidInputError

HOUR_US = 3_600_000_000


@pytest.mark.parametrize(
    ("text", "hours"),
    [("1h", 1), ("12h", 12), ("1d", 24), ("30d", 720), ("8w", 1_344), (" 2w ", 336), ("999999h", 999_999)],
)
def test_an_age_is_a_number_and_a_unit(text: str, hours: int) -> None:
    assert parse_age_us("--older-than", text) == hours * HOUR_US


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "d",
        "0d",
        "01d",
        "-1d",
        "+1d",
        "1.5d",
        "6m",
        "30 d",
        "1y",
        "30D",
        "1000000h",
        "\u0663d",
        "1\u0663d",
        "1d2h",
    ],
)
def test_invalid_age_is_rejected_with_its_option(text: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_age_us("--since", text)

    assert f"--since {text!r} is not an age." in str(refused.value)
    assert "12h, 30d, 8w" in str(refused.value)
