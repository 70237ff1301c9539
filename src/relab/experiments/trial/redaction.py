"""Redact the values of declared secrets from everything that a trial leaves behind."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import stat
import tempfile
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from relab.core.atomic_files import is_disk_full
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.workspace.untrusted_trees import allow_owner, check_holes, remove_tree, walk

MIN_CHARS: Final = 6
"""The minimum length of a secret: shorter values occur by chance, and redacting them would damage other text."""
_CHUNK = 4 * 1_048_576
_ESCAPED: Final[tuple[dict[str, str | int | None], ...]] = (
    {"/": "\\/"},
    {char: f"\\u{ord(char):04x}" for char in "<>&"},
    {char: f"\\u{ord(char):04x}" for char in "<>&='"},
    {char: f"\\u{ord(char):04X}" for char in "<>&'+`"},
)
"""Additional characters that JSON libraries escape: those of PHP, Go, Gson and .NET."""
_URL_SAFE: Final = ("", "/", "!*'()", "/!*'()")
"""Additional characters that URL encoders leave unchanged: none; Python's; JavaScript's; both."""


class Redactor:
    """Redacts the values of secrets from text and files: literally, and as encoded in JSON, HTML, URLs and base64.

    Args:
        secrets: `{name: value}` of the secrets.

    Raises:
        ExperimentInvalidError: a value is shorter than `MIN_CHARS`.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        names: dict[bytes, str] = {}
        for name, value in secrets.items():
            if len(value) < MIN_CHARS:
                raise ExperimentInvalidError(
                    f"The secret {name} has fewer than {MIN_CHARS} characters, so it cannot be distinguished from other text.",
                    remedy="If it is not a secret, pass it by runtime.harness.environment.pass.",
                )
            names |= dict.fromkeys(_forms(value), name)
        # Longest first, because one value may begin with another.
        self._forms = sorted(names, key=len, reverse=True)
        self._marks = {form: self._mark(names[form]) for form in self._forms}
        self._pattern = re.compile(b"|".join(map(re.escape, self._forms))) if self._forms else None
        self._longest = len(self._forms[0]) if self._forms else 0

    def text(self, text: str) -> str:
        """Return the text with each value of a secret replaced by the secret's name."""
        return self._clean(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def data(self, data: bytes) -> bytes:
        """Return the data with each value of a secret replaced by the secret's name."""
        return self._clean(data)

    def counted(self, data: bytes) -> tuple[bytes, int]:
        """Return the data with each value of a secret replaced by the secret's name, and the number of replacements."""
        return (data, 0) if self._pattern is None else self._pattern.subn(self._marked, data)

    def occurs_in(self, data: bytes) -> bool:
        """Return whether the data contains the value of a secret."""
        return self._pattern is not None and self._pattern.search(data) is not None

    def files(self, roots: Iterable[Path]) -> int:
        """Redact the names and contents of all files below `roots` (folders or files), and link targets.

        Return the number of changed files and links. A file that cannot be redacted is deleted.

        Raises:
            OSError: a file could not be redacted; raised after all other files, or at once if the disk is full.
        """
        if self._pattern is None:
            return 0
        count = 0
        errors: list[OSError] = []
        for root in roots:
            for path in self._paths(root, errors):
                try:
                    count += self._link(path) if path.is_symlink() else self._file(path)
                except OSError as error:
                    if is_disk_full(error):
                        raise
                    errors.append(error)
                    path.unlink()
        if errors:
            raise errors[0]
        return count

    def _paths(self, root: Path, errors: list[OSError]) -> Iterator[Path]:
        """Yield the files and links below a folder, then rename the files and folders whose names contain a secret.

        If `root` is a file, only this file is yielded; if it is a link, nothing is yielded.

        A folder that cannot be read cannot be redacted. The error is then added to `errors`, and the subfolder of
        `root` that contains this folder is deleted. Then all remaining files are yielded once more.
        """
        if root.is_symlink():
            return
        if root.is_file():
            yield root
            return
        assert self._pattern is not None
        is_whole = False
        while not is_whole:
            named = []
            try:
                for entry in walk(root):
                    if self._pattern.search(os.fsencode(entry.name)):
                        named.append(Path(entry.path))
                    if entry.is_symlink() or entry.is_file(follow_symlinks=False):
                        yield Path(entry.path)
                is_whole = True
            except OSError as error:
                # A folder is deeper than the longest path, or belongs to another user.
                errors.append(error)
                remove_tree(root / Path(error.filename).relative_to(root).parts[0])
        # The list has folders before their contents; contents must be renamed first.
        for path in reversed(named):
            self._rename(path)

    def _rename(self, path: Path) -> None:
        name = os.fsdecode(self._clean(os.fsencode(path.name)).replace(b"/", b"_")[:200])
        number = 1
        target = path.with_name(name)
        while os.path.lexists(target):
            number += 1
            target = path.with_name(f"{name} {number}")
        path.rename(target)

    def _link(self, path: Path) -> bool:
        target = os.fsencode(path.readlink())
        cleaned = self._clean(target)
        if cleaned == target:
            return False
        path.unlink()
        path.symlink_to(os.fsdecode(cleaned))
        return True

    def _file(self, path: Path) -> bool:
        status = path.lstat()
        check_holes(path, status)
        allow_owner(path)
        if not self._occurs(path):
            return False
        # A random name, because at a predictable name a harness could place a link to any file of this machine.
        descriptor, cleaned = tempfile.mkstemp(dir=path.parent)
        try:
            with path.open("rb") as source, os.fdopen(descriptor, "wb") as target:
                rest = b""
                while chunk := source.read(_CHUNK):
                    done, rest = self._split(rest + chunk)
                    target.write(done)
                target.write(self._clean(rest))
                os.fchmod(target.fileno(), stat.S_IMODE(status.st_mode))
            Path(cleaned).replace(path)
        except OSError:
            Path(cleaned).unlink(missing_ok=True)
            raise
        return True

    def _occurs(self, path: Path) -> bool:
        with path.open("rb") as source:
            rest = b""
            while chunk := source.read(_CHUNK):
                data = rest + chunk
                # `in` is several times as fast as the pattern.
                if any(form in data for form in self._forms):
                    return True
                rest = data[-self._longest :]
        return False

    def _split(self, data: bytes) -> tuple[bytes, bytes]:
        """Return `(redacted beginning of data, unredacted rest)`.

        A secret may begin in the rest, so the caller redacts the rest together with the data that follows.
        """
        assert self._pattern is not None
        # A secret's value may begin in the rest and continue in the following data.
        final = len(data) - self._longest + 1
        done, begin = [], 0
        for match in self._pattern.finditer(data):
            if match.start() >= final:
                break
            done += [data[begin : match.start()], self._marks[match.group()]]
            begin = match.end()
        end = max(begin, final)
        return b"".join([*done, data[begin:end]]), data[end:]

    def _clean(self, data: bytes) -> bytes:
        return self.counted(data)[0]

    def _marked(self, match: re.Match[bytes]) -> bytes:
        return self._marks[match.group()]

    def _mark(self, name: str) -> bytes:
        """Return the text that replaces the value of the secret `name`; it contains no secret value itself."""
        marks = (f"[secret {name}]".encode("utf-8", "surrogateescape"), b"[redacted]", b"***")
        return next(mark for mark in marks if not any(form in mark for form in self._forms))


def secrets_of(config: ExperimentConfig, environment: Mapping[str, str]) -> dict[str, str]:
    """Return `{name: value}` of the secrets that an experiment declares, with values from `environment`.

    Raises:
        ExperimentInvalidError: a secret is not set, or its value cannot be redacted.
    """
    missing = [name for name in config.runtime.harness.secrets if not environment.get(name)]
    if missing:
        raise ExperimentInvalidError(
            f"runtime.harness.secrets names {missing[0]}, which is not set in the environment.",
            remedy=f"export {missing[0]}=...",
        )
    found = {name: environment[name] for name in config.runtime.harness.secrets}
    # Raises for values that cannot be redacted, before the run's folder exists.
    Redactor(found)
    return found


def _forms(value: str) -> set[bytes]:
    # The value of an environment variable may be invalid UTF-8.
    raw = value.encode("utf-8", "surrogateescape")
    texts = {value, html.escape(value), html.escape(value, quote=False)}
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        texts |= {once, json.dumps(once, ensure_ascii=ascii_only)[1:-1]}
        texts |= {once.translate(str.maketrans(escaped)) for escaped in _ESCAPED}
    forms = {text.encode("utf-8", "surrogateescape") for text in texts}
    for safe in _URL_SAFE:
        for quoted in (urllib.parse.quote(raw, safe), urllib.parse.quote_plus(raw, safe)):
            forms |= {quoted.encode(), re.sub("%..", lambda match: match.group().lower(), quoted).encode()}
    # Base64 encodes a text differently at each of three offsets; the pattern is the part that does not depend on its neighbours.
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw)
        begin, end = (0, 2, 3)[offset], len(encoded) - (0, 3, 2)[(offset + len(raw)) % 3]
        if end - begin >= MIN_CHARS:
            forms |= {encoded[begin:end], encoded[begin:end].replace(b"+", b"-").replace(b"/", b"_")}
    return {form for form in forms if len(form) >= MIN_CHARS}
