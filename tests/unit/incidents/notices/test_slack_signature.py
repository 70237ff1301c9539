"""Verification of Slack's request signature, with the example that Slack publishes, and reading of commands."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from relab.core.errors import InvalidInputError, MalformedBodyError
from relab.incidents.notices.slack_commands import read_command
from relab.incidents.notices.slack_signature import SlackSignatureError, require_signature, signature_of
from support.notices.slack import EXAMPLE_BODY, EXAMPLE_SECRET, EXAMPLE_SIGNATURE, EXAMPLE_TIMESTAMP

SECRET = SecretStr(EXAMPLE_SECRET)
NOW_US = int(EXAMPLE_TIMESTAMP) * 1_000_000
MINUTES_US = 60_000_000


def check(
    body: bytes = EXAMPLE_BODY,
    *,
    timestamp: str | None = EXAMPLE_TIMESTAMP,
    signature: str | None = EXAMPLE_SIGNATURE,
    now_us: int = NOW_US,
) -> None:
    require_signature(SECRET, body, timestamp=timestamp, signature=signature, now_us=now_us)


def test_published_example_has_the_published_signature() -> None:
    assert signature_of(SECRET, EXAMPLE_TIMESTAMP, EXAMPLE_BODY) == EXAMPLE_SIGNATURE
    check()
    check(now_us=NOW_US + 5 * MINUTES_US)
    check(now_us=NOW_US - 5 * MINUTES_US)


@pytest.mark.parametrize(
    "signature",
    [None, "", "v0=", EXAMPLE_SIGNATURE.upper(), EXAMPLE_SIGNATURE[3:], EXAMPLE_SIGNATURE[:-1], "v0=\u00e9\ud800"],
)
def test_other_signatures_are_refused(signature: str | None) -> None:
    with pytest.raises(SlackSignatureError):
        check(signature=signature)


def test_a_body_that_was_changed_is_refused() -> None:
    with pytest.raises(SlackSignatureError):
        check(EXAMPLE_BODY.replace(b"roadrunner", b"coyote"))


@pytest.mark.parametrize("late_us", [5 * MINUTES_US + 1_000_000, -5 * MINUTES_US - 1_000_000])
def test_request_older_or_newer_than_five_minutes_is_rejected(late_us: int) -> None:
    with pytest.raises(SlackSignatureError, match="300 s"):
        check(now_us=NOW_US + late_us)


@pytest.mark.parametrize("timestamp", [None, "", "now", "1531420618.5", "\u0661\u0665", "9" * 400, "-1", "\ud800"])
def test_invalid_time_is_rejected_even_if_signed(timestamp: str | None) -> None:
    signature = None if timestamp is None else signature_of(SECRET, timestamp, EXAMPLE_BODY)
    with pytest.raises(SlackSignatureError):
        check(timestamp=timestamp, signature=signature)


def test_published_example_command_is_read() -> None:
    command = read_command(EXAMPLE_BODY)

    assert command.user_id == "U2CERLKJA"
    assert command.user_name == "roadrunner"
    assert command.text == ""
    assert command.author == "slack:roadrunner/U2CERLKJA"
    assert not command.is_check


def test_command_text_is_unescaped_and_one_line() -> None:
    command = read_command(b"user_id=U1&user_name=a%0Ab%1b&text=pause+a+%26lt%3B+b%0D%0Ac&text=pause+%26amp%3Blt%3B")

    assert command.user_name == "a b"
    assert command.text == "pause &lt;"


def test_ssl_check_is_recognised() -> None:
    assert read_command(b"ssl_check=1&token=x").is_check


@pytest.mark.parametrize("body", [b"\xff", b"a", b"user_id=%ff", b"&".join([b"a=1"] * 101)])
def test_body_that_is_not_a_form_is_rejected(body: bytes) -> None:
    with pytest.raises(MalformedBodyError):
        read_command(body)


@pytest.mark.parametrize(
    "body", [b"", b"text=help", b"user_id=", b"user_id=U1%2Fx", b"user_id=%C3%A9", b"user_id=" + b"U" * 65]
)
def test_command_needs_a_user_id(body: bytes) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_command(body)
    assert caught.value.problems == (("user_id", "is not a Slack user id"),)
