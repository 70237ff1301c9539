"""Secrets in logs are masked before anything is stored."""

from __future__ import annotations

import pytest

from relab.core.masking import mask_secrets


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("token ghp_" + "a1B2" * 9 + " end", "ghp_"),
        ("using glpat-" + "a1B2c3D4e5" * 2, "glpat-"),
        ("AWS AKIAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOP"),
        ("export DB_PASSWORD='correct horse'", "correct"),
        ('{"api_key": "abcdef123456"}', "abcdef123456"),
        ("Authorization: Bearer abcdefghijklmnop", "abcdefghijklmnop"),
        ("git clone https://ci:s3cr3tvalue@example.org/x.git", "s3cr3tvalue"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\ndef\n-----END RSA PRIVATE KEY-----", "MIIEabc"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijk", "eyJzdWIi"),
    ],
)
def test_secret_is_masked(text: str, secret: str) -> None:
    masked = mask_secrets(text)

    assert secret not in masked
    assert "[masked]" in masked


@pytest.mark.parametrize(
    "text",
    [
        "PASSWORD=***",
        "undefined token: x",
        "https://example.org/a@b",
        "tests/test_tokens.py::test_secret PASSED",
        "password=[masked]",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert mask_secrets(text) == text


@pytest.mark.parametrize(
    "text", ["password" * 40_000, "://" * 100_000, "eyJ" + "a" * 300_000, "-----BEGIN PRIVATE KEY-----" * 10_000]
)
def test_hostile_text_of_300_kb_is_masked_in_linear_steps(text: str) -> None:
    assert len(mask_secrets(text)) <= len(text)
