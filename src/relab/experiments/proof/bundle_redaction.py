"""Mask credentials in the files of a run before they are published: in text, binary data, tables and names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import jiter

from relab.core.masking import MASK, mask_bytes, names_a_secret
from relab.experiments.proof.redacted_file import PARQUET, RedactedFile
from relab.experiments.trial.redaction import MIN_CHARS, Redactor

MAX_BYTES: Final = 1_073_741_824
"""Larger files are left out: each file is read into memory."""
_COMPRESSED: Final = (
    b"\x1f\x8b",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x28\xb5\x2f\xfd",
    b"\xfd7zXZ",
    b"BZh",
    b"7z\xbc\xaf",
    b"\x04\x22\x4d\x18",
    b"Rar!",
)
_SQLITE: Final = b"SQLite format 3\x00"
_DUCKDB: Final = slice(8, 12)


class BundleRedactor:
    """Masks the values of known secrets, and everything that looks like a credential.

    Args:
        known: `{name: value}` of secrets; values shorter than `MIN_CHARS` are ignored.
    """

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = Redactor({name: value for name, value in known.items() if len(value) >= MIN_CHARS})

    def name(self, name: str) -> tuple[str, int]:
        """Return a file name in which credentials are masked, and the number of masked values."""
        data, counts = self._mask(name.encode("utf-8", "surrogateescape"))
        return data.decode("utf-8", "surrogateescape").replace("/", "_"), counts.total()

    def content(self, path: str, raw: bytes) -> RedactedFile:
        """Return the content of a file in which credentials are masked.

        A DuckDB database becomes one Parquet file for each table. A compressed file and a SQLite database are left out
        of the bundle (archive): the result has no content, and its `left_out` says why.

        Args:
            path: the path of the file; its suffix says whether it is JSON.
            raw: the bytes of the file.
        """
        # Values in compressed files and SQLite databases cannot be masked in place.
        if raw.startswith(_COMPRESSED):
            return RedactedFile(left_out="compressed")
        if raw.startswith(_SQLITE):
            return RedactedFile(left_out="database")
        if raw.startswith(PARQUET) or raw[_DUCKDB] == b"DUCK":
            from relab.experiments.proof.table_redaction import redact_tables  # noqa: PLC0415 loads DuckDB

            return redact_tables(raw, self._mask)
        if path.endswith((".json", ".jsonl")):
            data, counts = self._json(raw.splitlines(keepends=True) if path.endswith(".jsonl") else [raw])
        else:
            data, counts = self._mask(raw)
        return RedactedFile({"": data}, counts)

    def _mask(self, data: bytes) -> tuple[bytes, Counter[str]]:
        cleaned, count = self._known.counted(data)
        found = mask_bytes(cleaned)
        return found.data, found.counts + Counter({"declared": count})

    def _json(self, documents: Sequence[bytes]) -> tuple[bytes, Counter[str]]:
        """Mask the secrets in JSON documents; return the joined documents, and the number of masked values by kind.

        A document that is not JSON is masked as text.
        """
        done, total = [], Counter[str]()
        for raw in documents:
            data, counts = self._mask(raw)
            try:
                value = jiter.from_json(raw)
            except ValueError:
                done.append(data)
                total += counts
                continue
            if not counts and not _names_secrets(value):
                done.append(raw)
                continue
            masked = json.dumps(self._value(value, total), separators=(",", ":")).encode()
            done.append(masked + raw[len(raw.rstrip()) :])
        return b"".join(done), total

    def _value(self, value: Any, counts: Counter[str]) -> Any:
        if isinstance(value, str):
            data, found = self._mask(value.encode("utf-8", "surrogateescape"))
            counts += found
            return data.decode("utf-8", "surrogateescape")
        if isinstance(value, list):
            return [self._value(each, counts) for each in value]
        if not isinstance(value, dict):
            return value
        done = {}
        for name, each in value.items():
            is_secret = _is_secret(name, each)
            counts["named_value"] += is_secret
            done[self._value(name, counts)] = MASK if is_secret else self._value(each, counts)
        return done


def declared_in(environment: Mapping[str, str], names: Iterable[str]) -> dict[str, str | None]:
    """Return `{name: value}` of the declared secrets `names`; None for a secret whose value cannot be masked.

    That is a secret that is not set in `environment`, or whose value there is shorter than `MIN_CHARS`. No trial ran
    with such a short value, because the runner rejects it.
    """
    return {name: value if len(value := environment.get(name, "")) >= MIN_CHARS else None for name in names}


def secrets_in(environment: Mapping[str, str], declared: Mapping[str, str | None]) -> dict[str, str]:
    """Return `{name: value}` of the secrets to mask.

    These are the declared secrets, and the environment variables with names such as `API_KEY` or `DB_PASSWORD`.

    Args:
        environment: all environment variables. A variable that is not declared is ignored if its value is shorter than
            `MIN_CHARS`, or begins with a slash and so is the path of a file.
        declared: the value of each declared secret, from `declared_in`.
    """
    found = {
        name: value
        for name, value in environment.items()
        # The path of a file that contains a secret is not a secret itself.
        if names_a_secret(name) and len(value) >= MIN_CHARS and not value.startswith("/")
    }
    return found | {name: value for name, value in declared.items() if value}


def _is_secret(name: str, value: Any) -> bool:
    """Return whether a field of a JSON document holds a secret. The name of the field decides, such as `password`.

    These values are never secrets: values other than text and integers, values shorter than `MIN_CHARS`, and masked
    values. An integer is not a secret if the name ends with `token` or `tokens`, because it is a count of tokens.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)) or len(str(value)) < MIN_CHARS:
        return False
    if MASK in str(value) or str(value).startswith("[secret "):
        return False
    return names_a_secret(name) and (isinstance(value, str) or not name.lower().endswith(("token", "tokens")))


def _names_secrets(value: Any) -> bool:
    """Return whether a JSON document has, at any depth, a field that holds a secret, such as `password`."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if any(_is_secret(name, each) for name, each in node.items()):
                return True
            stack += node.values()
        elif isinstance(node, list):
            stack += node
    return False
