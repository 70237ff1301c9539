"""Sign statements in DSSE envelopes, and read them back.

Format: https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md. relab writes the JSON of an envelope in one
canonical form, and rejects any other form. So a change of any byte is detected, also of a byte that is not signed.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final

from relab.core.errors import MalformedBodyError
from relab.core.json import canonical_json, parse_json
from relab.experiments.proof.keys import PublicKey, SigningKey, parse_key_id

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"


class EnvelopeError(Exception):
    """The bytes are not a DSSE envelope (a signed statement) that relab wrote, or the signature does not match.

    The message says why.
    """


@dataclass(frozen=True)
class Envelope:
    """A signed statement.

    Attributes:
        statement: the in-toto Statement, as JSON.
        key: the key that the envelope names, with which the signature was verified.
    """

    statement: dict[str, Any]
    key: PublicKey


def sign(statement: dict[str, Any], key: SigningKey) -> bytes:
    """Sign an in-toto statement; return the DSSE envelope with statement and signature, as JSON without line breaks.

    Raises:
        SigningKeyError: the key cannot be created or used.
    """
    payload = canonical_json(statement).encode()
    return _encode(payload, key.sign(_message(payload)), key.public().key_id)


def open_envelope(raw: bytes) -> Envelope:
    """Verify an envelope's signature with the key that the envelope itself names; return the envelope.

    The caller has to decide whether this key is trusted.

    Raises:
        EnvelopeError: the envelope was changed, or has another form than `sign` writes.
    """
    try:
        document: Any = parse_json(raw)
        (signed,) = document["signatures"]
        payload = base64.b64decode(document["payload"], validate=True)
        signature = base64.b64decode(signed["sig"], validate=True)
        key = parse_key_id(signed["keyid"])
    except (MalformedBodyError, KeyError, TypeError, ValueError) as error:
        raise EnvelopeError("is not a DSSE envelope") from error
    if key is None:
        raise EnvelopeError("names no Ed25519 key")
    if _encode(payload, signature, key.key_id) != raw:
        raise EnvelopeError("is not written as relab writes an envelope")
    if not key.verifies(signature, _message(payload)):
        raise EnvelopeError("has a signature that does not match its statement")
    try:
        statement = parse_json(payload)
    except MalformedBodyError as error:
        raise EnvelopeError("has a statement that is not JSON") from error
    if not isinstance(statement, dict):
        raise EnvelopeError("has a statement that is not a JSON object")
    return Envelope(statement, key)


def _encode(payload: bytes, signature: bytes, key_id: str) -> bytes:
    document = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
    }
    return canonical_json(document).encode()


def _message(payload: bytes) -> bytes:
    """Return the bytes that are signed for a payload: the payload in DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
