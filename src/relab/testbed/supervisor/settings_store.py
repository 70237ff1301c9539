"""The target's settings in versions: the file that workers read at their start, and every version with its author.

Versions are not validated, because a purpose of the testbed is that a bad version can be written and rolled back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from relab.core.atomic_files import replace_file
from relab.core.clock import Clock
from relab.core.errors import InvalidInputError
from relab.core.json import canonical_json
from relab.testbed.errors import StaleVersionError, UnknownVersionError
from relab.testbed.layout import write_json
from relab.testbed.models import SettingsVersion

_HISTORY: Final = "history.jsonl"
_MASK: Final = "***"
_SECRETS: Final = frozenset({"password", "token"})
_MAX_BYTES: Final = 65_536


class SettingsStore:
    """The versions of the target's settings (a JSON document), stored as files.

    Args:
        folder: the folder of the files: `target.json` (the current version), `target.v<N>.json` and `history.jsonl`.
        clock: the clock for the times of versions.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    def begin(self, document: Mapping[str, Any]) -> None:
        """Delete all files in the folder, and start a new history of settings with `document` as version 1."""
        self._folder.mkdir(exist_ok=True)
        for path in self._folder.iterdir():
            path.unlink()
        self._write({**document, "version": 1}, {}, author="supervisor", note="the testbed was made")

    def current(self) -> dict[str, Any]:
        """Return the current version of the settings as JSON; the field `version` has its number."""
        return self._read(self._folder / "target.json")

    def history(self) -> list[SettingsVersion]:
        """Return the history of the settings: one entry for each version, oldest first."""
        # A later version was not stored completely, for example because the disk was full, and never took effect.
        return self._entries(self.current()["version"])

    def merge(
        self, changes: Mapping[str, Any], *, author: str, note: str, expected_version: int | None = None
    ) -> SettingsVersion:
        """Create a version of the settings with changed fields, and return its entry in the history.

        Args:
            changes: new values by name. A nested object is merged with the current object of this name. Any other value
                replaces the current value.
            author: the author of the version, for the history.
            note: the reason for the version, for the history.
            expected_version: the required number of the current version; None to skip this check.

        Raises:
            StaleVersionError: the current version is not `expected_version`.
            InvalidInputError: the changes set another `version` or a value that is not JSON, or the document becomes
                too large.
        """
        return self.replace(
            _merged(self.current(), changes), author=author, note=note, expected_version=expected_version
        )

    def replace(
        self, document: Mapping[str, Any], *, author: str, note: str, expected_version: int | None = None
    ) -> SettingsVersion:
        """Create a version of the settings with the content `document`, and return its entry in the history.

        Args:
            document: the complete new content. A field `version`, if present, must be the current version's number.
            author: the author of the version, for the history.
            note: the reason for the version, for the history.
            expected_version: the required number of the current version; None to skip this check.

        Raises:
            StaleVersionError: the current version is not `expected_version`.
            InvalidInputError: the document has another `version`, is too large, or has a value that is not JSON.
        """
        before = self.current()
        if expected_version is not None and before["version"] != expected_version:
            raise StaleVersionError(
                f"The settings are at version {before['version']}, not {expected_version}.",
                remedy="Read them again, and decide again.",
            )
        if document.get("version", before["version"]) != before["version"]:
            raise InvalidInputError(
                "The supervisor counts the versions.", problems=(("version", "must not be changed"),)
            )
        after = {**document, "version": before["version"] + 1}
        try:
            size = len(canonical_json(after).encode())
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(
                "The settings have a value that JSON in UTF-8 cannot represent, such as NaN, or are nested too deeply."
            ) from error
        if size > _MAX_BYTES:
            raise InvalidInputError(f"The settings would have more than {_MAX_BYTES:,} bytes.")
        return self._write(after, before, author=author, note=note)

    def roll_back(self, version: int | None, *, author: str, note: str) -> SettingsVersion:
        """Create a version of the settings with the content of an older version; return the new entry in the history.

        Args:
            version: the number of the older version; None for the version before the current one.
            author: the author of the new version, for the history.
            note: the reason, for the history; empty for a default text.

        Raises:
            UnknownVersionError: no version has this number, or `version` is None and there is only one version.
        """
        before = self.current()
        wanted = before["version"] - 1 if version is None else version
        path = self._folder / f"target.v{wanted}.json"
        # A later version was not stored completely and never took effect.
        if wanted > before["version"] or not path.is_file():
            raise UnknownVersionError(f"There is no version {wanted} of the settings.")
        found = {**self._read(path), "version": before["version"] + 1}
        return self._write(found, before, author=author, note=note or f"back to version {wanted}")

    def _write(self, document: dict[str, Any], before: Mapping[str, Any], *, author: str, note: str) -> SettingsVersion:
        version = int(document["version"])
        made = SettingsVersion(
            version=version,
            time=self._clock.now_us(),
            author=author,
            note=note,
            changes=differences(before, document) if before else {},
        )
        entries = [*(self._entries(version - 1) if before else ()), made]
        write_json(self._folder / f"target.v{version}.json", document)
        lines = "".join(f"{entry.model_dump_json()}\n" for entry in entries)
        replace_file(self._folder / _HISTORY, lines.encode(), mode=0o600)
        # Last, because the version takes effect with this file.
        write_json(self._folder / "target.json", document)
        return made

    def _entries(self, last: int) -> list[SettingsVersion]:
        """Return the entries of the settings history up to the version `last`."""
        # Bytes are split only at line ends, which JSON escapes; a text also at other separators, which a note may contain.
        lines = (self._folder / _HISTORY).read_bytes().splitlines()
        return [entry for line in lines if (entry := SettingsVersion.model_validate_json(line)).version <= last]

    def _read(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found


def mask(value: Any, name: str = "") -> Any:
    """Return a copy of a JSON document in which stars replace the values of all fields `password` and `token`.

    None is not replaced. A list in such a field is kept, but its items are replaced. An object in such a field is
    treated like the whole document: only the values of its own fields `password` and `token` are replaced.

    Args:
        value: the document, or a part of it.
        name: the name of the field that holds the part; empty for the whole document.
    """
    if isinstance(value, dict):
        return {key: mask(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [mask(item, name) for item in value]
    return _MASK if name in _SECRETS and value is not None else value


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields in which `after` differs from `before`: `{dotted name: {"from": old value, "to": new value}}`.

    Secrets are masked. An absent value is None. The field `version` is not compared.
    """
    old, new = flat(before), flat(after)
    names = sorted(name for name in old.keys() | new.keys() if name != "version" and old.get(name) != new.get(name))
    return {name: {"from": _masked(name, old.get(name)), "to": _masked(name, new.get(name))} for name in names}


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{dotted name: value}` of a nested document, with `prefix` before each name."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _masked(name: str, value: Any) -> Any:
    return mask(value, name.rpartition(".")[2])


def _merged(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(before)
    for key, value in changes.items():
        old = found.get(key)
        found[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return found
