"""YAML with line numbers: every value knows where in the file it stands."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from relab.core.json import JsonValue
from relab.experiments.errors import ExperimentInvalidError

MAX_BYTES: Final = 4 * 1_048_576
MAX_NODES: Final = 200_000
_MAX_DEPTH: Final = 100

FieldPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars, because "no" and "off" are words and 010 is ten."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


class YamlSource:
    """A parsed file: its value, and the line of each part of it.

    Attributes:
        path: the file, as messages name it.
        value: what it says.
    """

    def __init__(self, path: Path, value: JsonValue, lines: dict[FieldPath, int]) -> None:
        self.path = path
        self.value = value
        self._lines = lines

    def line_of(self, field: FieldPath) -> int:
        """Return the line of a field, or of the nearest part around it that is there."""
        while field and field not in self._lines:
            field = field[:-1]
        return self._lines.get(field, 1)

    def place(self, field: Sequence[str | int]) -> str:
        """Return `file:line: dotted.field`, as problems are named."""
        dotted = ".".join(map(str, field))
        return f"{self.path}:{self.line_of(tuple(field))}: {dotted}".removesuffix(": ")

    @classmethod
    def read(cls, path: Path) -> YamlSource:
        """Read a file.

        Raises:
            ExperimentInvalidError: it is not there, cannot be read, or is no YAML of plain values.
        """
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
            if len(raw) > MAX_BYTES:
                raise _problem(path, 1, f"is larger than {MAX_BYTES:,} bytes")
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise _problem(path, raw.count(b"\n", 0, error.start) + 1, "is not UTF-8") from error
        except FileNotFoundError as error:
            raise ExperimentInvalidError(f"There is no file {path}.", remedy="`lab init` writes a skeleton.") from error
        except OSError as error:
            raise ExperimentInvalidError(f"The file {path} cannot be read: {error.strerror}.") from error
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: Path) -> YamlSource:
        """Parse the text of a file.

        Raises:
            ExperimentInvalidError: it is no YAML of plain values.
        """
        try:
            node = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            raise _problem(path, mark.line + 1 if mark else 1, f"is not YAML: {error.problem}") from error
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise _problem(path, line, f"is not YAML: the character U+{error.character:04X} is not allowed") from error
        except RecursionError as error:
            raise _problem(path, 1, "has more values, or deeper ones, than an experiment can need") from error
        if node is None:
            raise _problem(path, 1, "is empty")
        lines: dict[FieldPath, int] = {}
        value = _Converter(path, lines).convert(node, ())
        return cls(path, value, lines)


class _Converter:
    def __init__(self, path: Path, lines: dict[FieldPath, int]) -> None:
        self._path = path
        self._lines = lines
        self._chars = 0

    def convert(self, node: yaml.Node, field: FieldPath) -> Any:
        line = node.start_mark.line + 1
        self._lines[field] = line
        # Aliases let a few bytes stand for any number of values.
        if len(self._lines) > MAX_NODES or len(field) > _MAX_DEPTH:
            raise _problem(self._path, line, "has more values, or deeper ones, than an experiment can need")
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, "tag:yaml.org,2002:map")
            return self._mapping(node, field)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "tag:yaml.org,2002:seq")
            return [self.convert(item, (*field, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, line)

    def _mapping(self, node: yaml.MappingNode, field: FieldPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise _problem(self._path, line, "a key is not text")
            key = self._text(key_node.value, line)
            if key == "<<" and key_node.style is None:
                raise _problem(self._path, line, "YAML 1.2 has no merge key (<<); write the fields out")
            if key in found:
                raise _problem(self._path, line, f"the key {key!r} occurs twice")
            found[key] = self.convert(value_node, (*field, key))
            self._lines[*field, key] = line
        return found

    def _scalar(self, node: yaml.ScalarNode, line: int) -> Any:
        construct = _CONSTRUCTORS.get(node.tag)
        if construct is None:
            raise _problem(self._path, line, f"the tag {node.tag} is not a plain value")
        try:
            return construct(self._text(node.value, line))
        except ValueError as error:
            raise _problem(self._path, line, f"cannot read {node.value[:60]!r}: {error}") from error

    def _text(self, text: str, line: int) -> str:
        self._chars += len(text)
        if self._chars > MAX_BYTES:
            raise _problem(self._path, line, f"has more than {MAX_BYTES:,} characters in its values")
        # No path, variable or JSON document could hold them.
        if _NO_TEXT.search(text):
            raise _problem(self._path, line, f"{text[:60]!r} has a character that is none")
        return text

    def _check_tag(self, node: yaml.Node, tag: str) -> None:
        if node.tag != tag:
            raise _problem(self._path, node.start_mark.line + 1, f"the tag {node.tag} is not a plain value")


def _bool(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("true or false is expected")
    return text.lower() == "true"


def _null(text: str) -> None:
    if text not in {"", "~", "null", "Null", "NULL"}:
        raise ValueError("null is expected")


def _int(text: str) -> int:
    _float(text)
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("beyond the range of a double")
    return number


_CONSTRUCTORS: Final[dict[str, Callable[[str], Any]]] = {
    "tag:yaml.org,2002:bool": _bool,
    "tag:yaml.org,2002:null": _null,
    "tag:yaml.org,2002:int": _int,
    "tag:yaml.org,2002:float": _float,
    "tag:yaml.org,2002:str": str,
}
_NO_TEXT: Final = re.compile("[\x00\ud800-\udfff]")


def _problem(path: Path, line: int, what: str) -> ExperimentInvalidError:
    return ExperimentInvalidError(f"{path}:{line}: {what}.", problems=((f"{path}:{line}", what),))


def nearest(name: str, known: Sequence[str]) -> str:
    """Return ` (did you mean …?)` if some known name is close, else nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
