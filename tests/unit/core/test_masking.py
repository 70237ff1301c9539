"""Values that look like secrets are masked in logs and files."""

from __future__ import annotations

import base64
import json
from collections import Counter

import pytest

from relab.core.masking import MASK, Masked, mask_bytes, mask_secrets, names_a_secret


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("token ghp_" + "a1B2" * 9 + " end", "ghp_"),
        ("using glpat-" + "a1B2c3D4e5" * 2, "glpat-"),
        ("+ curl -u x:relab_" + "0a1b" * 8 + "_" + "a-B_" * 10 + "cD3 http://lab", "a-B_"),
        ("AWS AKIAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOP"),
        ("export DB_PASSWORD='correct horse'", "correct"),
        ('{"api_key": "abcdef123456"}', "abcdef123456"),
        ("password=ab\\cd1234", "cd1234"),
        ("Authorization: Bearer abcdefghijklmnop", "abcdefghijklmnop"),
        ("git clone https://ci:s3cr3tvalue@example.org/x.git", "s3cr3tvalue"),
        ("redis://:pa:55word@cache:6379/0", "55word"),
        ("postgresql://shop:p@ssw0rd@db/shop", "ssw0rd"),
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
        "http://127.0.0.1:8080/runs?by=ann@example.org",
        "tests/test_tokens.py::test_secret PASSED",
        "password=[masked]",
    ],
)
def test_text_without_secrets_is_unchanged(text: str) -> None:
    assert mask_secrets(text) == text


@pytest.mark.parametrize(
    "text", ["password" * 40_000, "://" * 100_000, "eyJ" + "a" * 300_000, "-----BEGIN PRIVATE KEY-----" * 10_000]
)
def test_hostile_text_of_300_kb_is_masked_in_linear_steps(text: str) -> None:
    assert len(mask_secrets(text)) <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"secrets":["OPENAI_API_KEY"],"token": null}',
        '{"password": false}',
        "password: [redacted]",
        '"max_tokens": 1000000})',
        "tokens: 1,234,567\n",
    ],
)
def test_fields_without_a_value_stay(text: str) -> None:
    assert mask_bytes(text.encode()) == Masked(text.encode(), Counter())


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x00\xffid sk-" + b"a1B2" * 9 + b"\x00", "token"),
        (json.dumps(json.dumps({"api_key": "abcdef123456"})).encode(), "named_value"),
        (b"data:text/plain;base64," + base64.b64encode(b"DB_PASSWORD=correct-horse-battery"), "base64"),
        (b"/path/" + base64.urlsafe_b64encode(b"hello ghp_" + b"a1B2" * 9 + b"???>>>"), "base64"),
    ],
)
def test_secret_in_bytes_is_masked_and_counted(data: bytes, kind: str) -> None:
    masked = mask_bytes(data)

    assert masked.counts == {kind: 1}
    assert MASK.encode() in masked.data
    assert mask_bytes(masked.data) == Masked(masked.data, Counter())


def test_name_of_a_secret_is_recognized() -> None:
    assert [
        name for name in ("db_password", "API-KEY", "tokens", "tokens_in", "password_hint") if names_a_secret(name)
    ] == [
        "db_password",
        "API-KEY",
        "tokens",
    ]
