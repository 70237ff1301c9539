"""Mask values that look like secrets, in text and in the bytes of files."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

MASK: Final = "[masked]"

_SCALAR: Final = r"(?:true|false|null|None|True|False)\b"
_NAME: Final = (
    r"(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key|credential)s?"
)
_TOKENS: Final = r"tokens?"
# A number of tokens is no secret.
_NO_NUMBER: Final = r"(?![\d.,_]+(?:[\s)\]}\\;\"']|$))"


def _named_value(names: str, more: str = "") -> str:
    """Return a regular expression that matches a secret value after its name, such as `password=hunter2`.

    These values are not matched: `***`, `[masked]` and other masks; lists and objects; true, false and null; values of
    fewer than 6 characters.

    Args:
        names: a regular expression of the names whose values are secret.
        more: a lookahead for the value; the value is matched only if the lookahead succeeds.
    """
    # Another program, such as a CI system, may have masked the value. Quotation marks may be escaped, as in JSON text
    # inside a JSON string.
    return (
        rf"(?i)({names}\\{{0,3}}[\"']?[ \t]{{0,3}}[=:][ \t]{{0,3}}\\{{0,3}}[\"']?)"
        rf"(?!\*{{3}}|\[masked\]|\[redacted\]|\[secret|[\[\]{{}}]|{_SCALAR}){more}((?:[^\s\"',;&\\]|\\(?![\"'])){{6,500}})"
    )


_RULES: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "private_key",
        r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[^-]{1,20000}(-----END [A-Z ]{0,30}PRIVATE KEY-----)",
        rf"\1{MASK}\2",
    ),
    (
        # Tokens that their issuers begin with a fixed prefix.
        "token",
        (
            r"\b(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_\w{20,255}|gl(?:pat|cbt|rt|ptt|dt)-[\w-]{15,255}|xox[abeprs]-[\w-]{10,255}"
            r"|(?:AKIA|ASIA)[A-Z0-9]{16}\b|AIza[\w-]{30,60}|npm_[A-Za-z0-9]{30,60}|pypi-[\w-]{40,400}|sk-[\w-]{20,255}"
            r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}|hf_[A-Za-z0-9]{30,60}|SG\.[\w-]{16,64}\.[\w-]{16,64}|dop_v1_[0-9a-f]{64}"
            r"|relab_[0-9a-f]{32}_[\w-]{43})"
        ),
        MASK,
    ),
    ("json_web_token", r"\beyJ[\w-]{10,2000}\.[\w-]{10,4000}\.[\w-]{5,2000}", MASK),
    ("authorization", r"(?i)\b((?:bearer|basic) )([\w.~+/=-]{12,4000})", rf"\1{MASK}"),
    # To the last @ of the authority: a password may contain a colon, and programs accept an @ in it.
    ("url_password", r"(://[^\s/:@]{0,200}:)([^\s/?#\"'<>]{1,500}|[^\s/:@]{1,500})(?=@)", rf"\1{MASK}"),
    ("named_value", _named_value(_NAME), rf"\1{MASK}"),
    ("named_value", _named_value(_TOKENS, _NO_NUMBER), rf"\1{MASK}"),
)
"""Kind, pattern and replacement of each rule, in the order in which they are applied."""

_TEXT_RULES: Final = tuple((kind, re.compile(pattern), mask) for kind, pattern, mask in _RULES)
_BYTE_RULES: Final = tuple((kind, re.compile(pattern.encode()), mask.encode()) for kind, pattern, mask in _RULES)
_NAME_ALONE: Final = re.compile(rf"(?i)(?:{_NAME}|{_TOKENS})$")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{24,8000}={0,2}")
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_MIN_DECODED: Final = 12
"""Minimum number of decoded bytes. Shorter ones match a rule too often by chance."""


@dataclass(frozen=True)
class Masked:
    """Bytes with masked secrets, and the number of masked values by kind."""

    data: bytes
    counts: Counter[str]


def mask_secrets(text: str) -> str:
    """Return the text with `[masked]` in place of values that look like secrets.

    These values are masked:

    - tokens with the prefix of a known issuer: GitHub, GitLab, Slack, AWS, Google, npm, PyPI, OpenAI, Stripe, Hugging
      Face, SendGrid, DigitalOcean, relab itself
    - JSON Web Tokens
    - values after names such as `password=` or `token:`
    - HTTP credentials (after `Bearer` or `Basic`) and passwords in URLs
    - private keys
    """
    for _, pattern, mask in _TEXT_RULES:
        text = pattern.sub(mask, text)
    return text


def mask_bytes(data: bytes) -> Masked:
    """Return the bytes with `[masked]` in place of values that look like secrets, even if they are in base64.

    The rules are the same as for `mask_secrets`. `counts` has the number of masked values by kind: `private_key`,
    `token`, `json_web_token`, `authorization`, `url_password`, `named_value`, and `base64` for an encoded value of any
    kind.
    """
    counts: Counter[str] = Counter()
    for kind, pattern, mask in _BYTE_RULES:
        data, count = pattern.subn(mask, data)
        if count:
            counts[kind] += count
    data = _BASE64.sub(lambda match: _without_encoded(match, counts), data)
    return Masked(data, counts)


def names_a_secret(name: str) -> bool:
    """Return whether a field, variable or option with this name holds a secret: `db_password`, `apiKey`, `tokens`."""
    return _NAME_ALONE.search(name) is not None


def _without_encoded(match: re.Match[bytes], counts: Counter[str]) -> bytes:
    run = match.group()
    standard = run.rstrip(b"=").translate(_URL_SAFE)
    # The encoded value may follow other characters of the alphabet, such as those of a path.
    for offset in range(4):
        part = standard[offset:]
        part = part[: len(part) // 4 * 4] if len(part) % 4 == 1 else part + b"=" * (-len(part) % 4)
        try:
            decoded = base64.b64decode(part)
        except binascii.Error:
            continue
        if len(decoded) >= _MIN_DECODED and any(pattern.search(decoded) for _, pattern, _ in _BYTE_RULES):
            counts["base64"] += 1
            return MASK.encode()
    return run
