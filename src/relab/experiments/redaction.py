"""Declared secrets: their values never stay in what a trial leaves behind."""

from __future__ import annotations

import base64
import errno
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

from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.trees import allow_owner, check_holes, remove_tree, walk

MIN_CHARS: Final = 6
"""Shorter values occur by chance, and taking them out would spoil what is left."""
_CHUNK = 4 * 1_048_576
_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT))
_ESCAPED: Final[tuple[dict[str, str | int | None], ...]] = (
    {"/": "\\/"},
    {char: f"\\u{ord(char):04x}" for char in "<>&"},
    {char: f"\\u{ord(char):04x}" for char in "<>&='"},
    {char: f"\\u{ord(char):04X}" for char in "<>&'+`"},
)
"""What writers of JSON escape beside the necessary: PHP's, Go's, Gson and .NET's."""
_URL_SAFE: Final = ("", "/", "!*'()", "/!*'()")
"""What else of a value stands unchanged in a URL: nothing; as Python, JavaScript and both have it."""


class Redactor:
    """Takes the values of secrets out of text and files, as they are and as JSON, HTML, URLs and base64 write them.

    Args:
        secrets: `{name: value}`.

    Raises:
        ExperimentInvalidError: a value is too short to be told from other text.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        names: dict[bytes, str] = {}
        for name, value in secrets.items():
            if len(value) < MIN_CHARS:
                raise ExperimentInvalidError(
                    f"The secret {name} has fewer than {MIN_CHARS} characters: it could not be told from other text.",
                    remedy="Pass it by runtime.harness.environment.pass if it is none.",
                )
            names |= dict.fromkeys(_forms(value), name)
        # The longest first: one value may begin with another.
        self._forms = sorted(names, key=len, reverse=True)
        self._marks = {form: self._mark(names[form]) for form in self._forms}
        self._pattern = re.compile(b"|".join(map(re.escape, self._forms))) if self._forms else None
        self._longest = len(self._forms[0]) if self._forms else 0

    def text(self, text: str) -> str:
        """Return the text without the values."""
        return self._clean(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def data(self, data: bytes) -> bytes:
        """Return the data without the values."""
        return self._clean(data)

    def occurs_in(self, data: bytes) -> bool:
        """Return whether some value is in the data."""
        return self._pattern is not None and self._pattern.search(data) is not None

    def files(self, roots: Iterable[Path]) -> int:
        """Take the values out of every file below these folders (or of these files); return how many had some.

        Names of files and targets of links are cleaned too. What cannot be cleaned is deleted, so that nothing
        of it stays, and then told of.

        Raises:
            OSError: a file could not be read or written; all others are clean, unless there is no room.
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
                    if error.errno in _NO_ROOM:
                        raise
                    errors.append(error)
                    path.unlink()
        if errors:
            raise errors[0]
        return count

    def _paths(self, root: Path, errors: list[OSError]) -> Iterator[Path]:
        """Yield the files and links below a folder; those whose names have a value get another first."""
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
                # A folder lies deeper than a path can name, or is another user's.
                errors.append(error)
                remove_tree(root / Path(error.filename).relative_to(root).parts[0])
        # What is in a folder comes after it, and has to be renamed before it.
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
        # A name that a harness can foresee could be a link of its making, to any file of this machine.
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
                # Several times as fast as the pattern.
                if any(form in data for form in self._forms):
                    return True
                rest = data[-self._longest :]
        return False

    def _split(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what is clean and final, and the rest, in which a value may begin that goes on after it."""
        assert self._pattern is not None
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
        return data if self._pattern is None else self._pattern.sub(lambda match: self._marks[match.group()], data)

    def _mark(self, name: str) -> bytes:
        """Return what stands in the place of a value: nothing that is itself one."""
        marks = (f"[secret {name}]".encode("utf-8", "surrogateescape"), b"[redacted]", b"***")
        return next(mark for mark in marks if not any(form in mark for form in self._forms))


def _forms(value: str) -> set[bytes]:
    # A variable of the environment need not be UTF-8.
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
    # In base64 a text looks different at each of three offsets; what is the same whatever surrounds it is looked for.
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw)
        begin, end = (0, 2, 3)[offset], len(encoded) - (0, 3, 2)[(offset + len(raw)) % 3]
        if end - begin >= MIN_CHARS:
            forms |= {encoded[begin:end], encoded[begin:end].replace(b"+", b"-").replace(b"/", b"_")}
    return {form for form in forms if len(form) >= MIN_CHARS}
