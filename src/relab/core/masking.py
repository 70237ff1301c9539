"""Mask secrets in the text of logs, before it is stored or quoted."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "[masked]"

_TOKENS: Final = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_\w{20,255}|gl(?:pat|cbt|rt|ptt|dt)-[\w-]{15,255}|xox[abeprs]-[\w-]{10,255}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}\b|AIza[\w-]{30,60}|npm_[A-Za-z0-9]{30,60}|pypi-[\w-]{40,400}|sk-[\w-]{20,255}|dop_v1_[0-9a-f]{64}"
    r"|eyJ[\w-]{10,2000}\.[\w-]{10,4000}\.[\w-]{5,2000})"
)
"""Tokens that their issuers begin with a fixed prefix, and JSON Web Tokens."""
_NAMED: Final = re.compile(
    r"(?i)((?:password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)s?[\"']?[ \t]{0,3}[=:][ \t]{0,3}[\"']?)"
    r"(?!\*{3}|\[masked\])([^\s\"',;&]{6,500})"
)
"""A value after a name that says it is secret; `***` is what a CI has masked already."""
_AUTHORIZATION: Final = re.compile(r"(?i)\b((?:bearer|basic) )([\w.~+/=-]{12,4000})")
_USER_OF_URL: Final = re.compile(r"(://[^\s/:@]{0,200}:)([^\s/:@]{1,500})(?=@)")
_PRIVATE_KEY: Final = re.compile(
    r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[^-]{1,20000}(-----END [A-Z ]{0,30}PRIVATE KEY-----)"
)


def mask_secrets(text: str) -> str:
    """Return the text with `[masked]` in place of values that look like secrets.

    Masked are tokens with the prefix of their issuer (GitHub, GitLab, Slack, AWS, Google, npm, PyPI, OpenAI, DigitalOcean), JSON
    Web Tokens, values after names such as `password=` or `token:`, credentials of HTTP and of URLs, and private keys. A
    secret without such a sign stays.
    """
    text = _PRIVATE_KEY.sub(rf"\1{MASK}\2", text)
    text = _TOKENS.sub(MASK, text)
    text = _AUTHORIZATION.sub(rf"\1{MASK}", text)
    text = _USER_OF_URL.sub(rf"\1{MASK}", text)
    return _NAMED.sub(rf"\1{MASK}", text)
