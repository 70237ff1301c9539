"""Whether a request is Slack's: version 0 of its signatures. Pure.

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
"""A request that says that it is older, or younger, is refused."""
_US: Final = 1_000_000
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")


class SlackSignatureError(UnauthenticatedError):
    """The request is not Slack's, or it is one that came before."""

    code = "invalid_signature"


def signature_of(secret: SecretStr, timestamp: str, body: bytes) -> str:
    """Return the signature that Slack gives a body, with the version in front."""
    signed = b"v0:" + timestamp.encode("utf-8", "replace") + b":" + body
    return "v0=" + hmac.new(secret.get_secret_value().encode(), signed, hashlib.sha256).hexdigest()


def require_signature(
    secret: SecretStr, body: bytes, *, timestamp: str | None, signature: str | None, now_us: int
) -> None:
    """Return if Slack has signed this, and not long ago.

    Raises:
        SlackSignatureError: somebody else has, or nobody, or it was long ago.
    """
    if timestamp is None or signature is None:
        raise SlackSignatureError(
            "The request is not signed.", remedy="Slack sends X-Slack-Signature and X-Slack-Request-Timestamp."
        )
    expected = signature_of(secret, timestamp, body)
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
        raise SlackSignatureError(
            "The signature is not one of the Slack app's.",
            remedy="RELAB_NOTICES__SLACK_SIGNING_SECRET must be the app's signing secret.",
        )
    if not _TIMESTAMP.fullmatch(timestamp) or abs(int(timestamp) - now_us / _US) > TOLERANCE_S:
        raise SlackSignatureError(
            f"The request is not of the last {TOLERANCE_S} s.", remedy="Compare the clock of this machine."
        )
