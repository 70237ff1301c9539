"""Requests as Slack sends them."""

from __future__ import annotations

from urllib.parse import urlencode

from pydantic import SecretStr

from relab.incidents.notices.slack_signature import signature_of

# The example of https://docs.slack.dev/authentication/verifying-requests-from-slack, word for word.
EXAMPLE_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
EXAMPLE_TIMESTAMP = "1531420618"
EXAMPLE_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
EXAMPLE_SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
FORM = "application/x-www-form-urlencoded"


def command_body(text: str, *, user_id: str = "U2CERLKJA", user_name: str = "roadrunner") -> bytes:
    """Return the form that Slack sends for the command `/relab text`."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    fields = {
        "team_id": "T1DC2JH3J",
        "channel_id": "G8PSS9T3V",
        "user_id": user_id,
        "user_name": user_name,
        "command": "/relab",
        "text": escaped,
        "response_url": "https://hooks.slack.com/commands/T1DC2JH3J/397700885554/96rGlfmibIGlgcZRskXaIFfN",
    }
    return urlencode(fields).encode()


def signed_headers(body: bytes, now_us: int, *, secret: str = EXAMPLE_SECRET) -> dict[str, str]:
    """Return the headers with which Slack sends a body."""
    timestamp = str(now_us // 1_000_000)
    return {
        "content-type": FORM,
        "x-slack-request-timestamp": timestamp,
        "x-slack-signature": signature_of(SecretStr(secret), timestamp, body),
    }
