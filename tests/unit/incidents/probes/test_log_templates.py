"""Log lines as templates: variable parts are masked, and the number of templates is bounded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.incidents.probes.log_templates import MAX_TEMPLATES, OTHERS, count_templates, template_of


@pytest.mark.parametrize(
    ("message", "template"),
    [
        ("worker 2 serves", "worker <n> serves"),
        ("connection to server at 127.0.0.1, port 5432 failed", "connection to server at <address>, port <n> failed"),
        ("no answer within 7.5 s", "no answer within <n> s"),
        ("cannot open /var/lib/shop/data.bin now", "cannot open <path> now"),
        ("order 7f3a9b2c4d5e is 'new'", "order <hex> is <text>"),
        ("trace 01a1ff7c-6187-73e0-8b29-7ca8a5b4e4ca", "trace <id>"),
        ("two\n  lines\tof it", "two lines of it"),
        ("nothing varies", "nothing varies"),
    ],
)
def test_variable_parts_are_masked(message: str, template: str) -> None:
    assert template_of(message) == template


def test_lines_of_one_kind_are_counted_together() -> None:
    lines: list[Any] = [
        {"event": "db_error", "message": "DB_ERROR: timeout after 5 s"},
        {"event": "db_error", "message": "DB_ERROR: timeout after 7 s"},
        {"event": "db_error"},
        "plain 12",
        None,
        {"message": 7},
    ]
    assert count_templates(lines) == {"db_error: DB_ERROR: timeout after <n> s": 2, "db_error: ": 1, "plain <n>": 1}


def test_number_of_templates_of_a_random_log_is_bounded() -> None:
    words = [f"{first}{second}{third}" for first in "abcdefgh" for second in "ijklmnop" for third in "qrstuvwx"]
    found = count_templates(words)
    assert len(found) == MAX_TEMPLATES + 1
    assert found[OTHERS] == len(words) - MAX_TEMPLATES


@given(st.text(max_size=2_000))
def test_any_message_has_a_short_template_on_one_line(message: str) -> None:
    found = template_of(message)
    assert len(found) <= 160
    assert "\n" not in found
