"""Failure templates: lines that report the same failure share one; similar lines for other failures do not."""

from __future__ import annotations

import pytest

from relab.builds.suggestions.signature import MAX_TEMPLATE_CHARS, failure_key, failure_template


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("main.c:12:5: error: 'x' undeclared", "main.c:980:17: error: 'x' undeclared"),
        ("it needs more than 96 MB", "it needs more than 512 MB"),
        ("/tmp/pip-req-build-x1y2/setup.py: error: no wheel", "/tmp/pip-req-build-qq77/setup.py: error: no wheel"),
        ("layer 3f1c2a9bd0 missing", "layer 90ab3ce1f2 missing"),
        ("error:   spaced", "error: spaced"),
    ],
)
def test_same_message_has_one_template(one: str, other: str) -> None:
    assert failure_template(one) == failure_template(other)
    assert failure_key(failure_template(one)) == failure_key(failure_template(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Process completed with exit code 137", "Process completed with exit code 1"),
        ("error TS2307: Cannot find", "error TS2322: Cannot find"),
        ("error[E0425]: cannot find", "error[E0432]: cannot find"),
        ("terminated with signal 9", "terminated with signal 11"),
        ("server responded 404", "server responded 503"),
        ("GET /metrics HTTP/1.1 404", "GET /metrics HTTP/1.1 500"),
        ('GET /metrics HTTP/1.1" 404', 'GET /metrics HTTP/1.1" 500'),
        ("No module named 'yaml'", "No module named 'numpy'"),
    ],
)
def test_similar_line_for_another_failure_has_another_template(one: str, other: str) -> None:
    assert failure_template(one) != failure_template(other)
    assert failure_key(failure_template(one)) != failure_key(failure_template(other))


def test_secrets_and_control_characters_are_not_in_a_template() -> None:
    made = failure_template("error: token=abcdefgh1234 \x1b[2J https://me:hunter22@example.org")

    assert "abcdefgh" not in made
    assert "hunter" not in made
    assert "\x1b" not in made


def test_template_is_short() -> None:
    assert len(failure_template("long " * 1_000)) <= MAX_TEMPLATE_CHARS
