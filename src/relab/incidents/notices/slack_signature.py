"""Verify the signatures of Slack requests, version 0. Pure.

https://docs.slack.dev/authentication/verifying-requests-from-slack
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from pydantic import SecretStr

from relab.core.errors import UnauthenticatedError

TOLERANCE_S: Final = 300
"""The most seconds by which the timestamp of a request may differ from the current time."""
_US: Final = 1_000_000
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")


class SlackSignatureError(UnauthenticatedError):
    """The signature of a Slack request is not valid, or the request is a replay."""

    code = "invalid_signature"


def signature_of(secret: SecretStr, timestamp: str, body: bytes) -> str:
    """Return the signature of a body as Slack computes it, with the version prefix `v0=`.

    `secret` is the signing secret of the Slack app, `timestamp` the time that the request states.
    """
    signed = b"v0:" + timestamp.encode("utf-8", "replace") + b":" + body
    return "v0=" + hmac.new(secret.get_secret_value().encode(), signed, hashlib.sha256).hexdigest()


def require_signature(
    secret: SecretStr, body: bytes, *, timestamp: str | None, signature: str | None, now_us: int
) -> None:
    """Check that Slack signed a request, with a timestamp at most `TOLERANCE_S` seconds before or after now.

    Args:
        secret: the signing secret of the Slack app.
        body: the body of the request.
        timestamp: the header `X-Slack-Request-Timestamp`; None if it is missing.
        signature: the header `X-Slack-Signature`; None if it is missing.
        now_us: the current time, in microseconds since 1970.

    Raises:
        SlackSignatureError: the signature or the timestamp is missing or invalid, or the timestamp is too far from now.
    """
    if timestamp is None or signature is None:
        raise SlackSignatureError(
            "The request is not signed.", remedy="Slack sends X-Slack-Signature and X-Slack-Request-Timestamp."
        )
    expected = signature_of(secret, timestamp, body)
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
        raise SlackSignatureError(
            "The signature is not valid for the Slack app.",
            remedy="RELAB_NOTICES__SLACK_SIGNING_SECRET must be the app's signing secret.",
        )
    if not _TIMESTAMP.fullmatch(timestamp) or abs(int(timestamp) - now_us / _US) > TOLERANCE_S:
        raise SlackSignatureError(
            f"The request is older than {TOLERANCE_S} s, or from the future.", remedy="Check the clock of this machine."
        )
