"""Read YAML files, with the line number of every value."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relab.core.errors import InvalidInputError
from relab.core.json import JsonValue
from relab.core.regular_files import open_regular_file
from relab.core.yaml_limits import MAX_BYTES, FieldPath


class YamlSource:
    """A parsed file: its value, and the line number of each field.

    Attributes:
        path: the path of the file, for messages.
        value: the parsed value.
    """

    def __init__(self, path: Path, value: JsonValue, lines: dict[FieldPath, int]) -> None:
        self.path = path
        self.value = value
        self._lines = lines

    def line_of(self, field: FieldPath) -> int:
        """Return the line number of a field, from 1.

        For a field that does not exist, return the line of its nearest existing parent.
        """
        while field and field not in self._lines:
            field = field[:-1]
        return self._lines.get(field, 1)

    def lines(self) -> dict[str, int]:
        """Return `{dotted field: line}` for all fields."""
        return {".".join(map(str, field)): line for field, line in self._lines.items()}

    def place(self, field: Sequence[str | int]) -> str:
        """Return the position of a field for an error message, as `file:line: dotted.field`.

        `field` is the path of keys and list indices to the field.
        """
        dotted = ".".join(map(str, field))
        return f"{self.path}:{self.line_of(tuple(field))}: {dotted}".removesuffix(": ")


@dataclass(frozen=True, slots=True)
class YamlReader:
    """Reads YAML files of one kind, such as runbooks, and raises errors of the classes for this kind.

    A file may contain mappings, lists, text, numbers, true, false and null, but no other values.

    Attributes:
        error: the class of the errors; the `problems` of an error name the file and the line.
        missing: the class of the error for a file that does not exist; None for the class `error`.
        missing_remedy: the remedy in the error for a file that does not exist.
        max_bytes: the maximum size of a file. It also limits the total number of characters after aliases are resolved.
        refuses_yaml_1_1: whether to reject scalars such as `no` and `010`, which YAML 1.1 and 1.2 read as different
            values. relab reads YAML 1.2. Set it for files that other programs may read as YAML 1.1.
    """

    error: type[InvalidInputError]
    missing: type[InvalidInputError] | None = None
    missing_remedy: str | None = None
    max_bytes: int = MAX_BYTES
    refuses_yaml_1_1: bool = False

    def read(self, path: Path) -> YamlSource:
        """Read and parse a file.

        Raises:
            InvalidInputError: the file cannot be read, is not valid YAML, is empty or too large, or contains other
                values than the class allows. The class of the error is `self.error`. For a file that does not exist,
                it is `self.missing`, unless that is None.
        """
        return self.parse(self.read_text(path), path)

    def read_text(self, path: Path) -> str:
        """Read a file of at most `max_bytes` as UTF-8 text.

        Raises:
            InvalidInputError: the file cannot be read, is not UTF-8, or is too large; the class of the error is
                `self.error`. For a file that does not exist, the class is `self.missing`, unless that is None.
        """
        try:
            with open_regular_file(path) as file:
                raw = file.read(self.max_bytes + 1)
            if len(raw) > self.max_bytes:
                raise self.problem(path, 1, f"is larger than {self.max_bytes:,} bytes")
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.problem(path, raw.count(b"\n", 0, error.start) + 1, "is not UTF-8") from error
        except FileNotFoundError as error:
            kind = self.missing or self.error
            raise kind(f"There is no file {path}.", remedy=self.missing_remedy) from error
        except OSError as error:
            raise self.error(f"The file {path} cannot be read: {error.strerror}.") from error

    def parse(self, text: str, path: Path, *, first_line: int = 1) -> YamlSource:
        """Parse the text of a YAML file, or of a part of the file.

        Args:
            text: the text.
            path: the path of the file, for error messages.
            first_line: the line of the file at which the text begins.

        Raises:
            InvalidInputError: the text is not valid YAML, is empty or too large, or contains other values than the
                class allows. The class of the error is `self.error`.
        """
        from relab.core.yaml_parsing import parse_yaml

        def problem(line: int, what: str) -> InvalidInputError:
            return self.problem(path, first_line - 1 + line, what)

        found = parse_yaml(text, problem, max_chars=self.max_bytes, refuses_yaml_1_1=self.refuses_yaml_1_1)
        lines = {field: first_line - 1 + line for field, line in found.lines.items()}
        return YamlSource(path, found.value, lines)

    def problem(self, path: Path, line: int, what: str) -> InvalidInputError:
        """Return (not raise) an error about a line of a file; `what` is the problem, such as `is empty`."""
        return self.error(f"{path}:{line}: {what}.", problems=((f"{path}:{line}", what),))


def nearest(name: str, known: Sequence[str]) -> str:
    """Return ` (did you mean …?)` with the most similar known name, for an error message.

    Return an empty text if no name is similar.
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
