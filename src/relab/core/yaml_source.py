"""Parse YAML and record the line number of every value."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from relab.core.errors import InvalidInputError
from relab.core.json import JsonValue
from relab.core.regular_files import open_regular_file

MAX_BYTES: Final = 4 * 1_048_576
MAX_NODES: Final = 30_000
MAX_DEPTH: Final = 100
"""How deep lists and mappings may be nested."""
_TOO_MUCH: Final = f"has more values, or deeper ones, than are read: at most {MAX_NODES:,}, nested {MAX_DEPTH} deep"

FieldPath = tuple[str | int, ...]


class _TooLargeError(Exception):
    """The text has too many nodes, or nodes that are nested too deeply."""

    def __init__(self, line: int) -> None:
        super().__init__(_TOO_MUCH)
        self.line = line


class _Limited(yaml.composer.Composer):
    """Builds YAML nodes; raises `_TooLargeError` at the first node that exceeds the limit of their number or depth."""

    # Counted while nodes are built, because a node takes 500 times the memory of a byte of text.
    _nodes = 0
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._nodes += 1
        self._depth += 1
        # Each key is a node too, hence the factor 2.
        if self._nodes > 2 * MAX_NODES or self._depth > MAX_DEPTH + 1:
            raise _TooLargeError(self.peek_event().start_mark.line + 1)  # type: ignore[attr-defined]
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Loader(_Limited, yaml.SafeLoader):
    """Reads a text with PyYAML's parser in Python; used if the faster libyaml is absent or rejects the text."""

    def __init__(self, stream: str) -> None:
        yaml.SafeLoader.__init__(self, stream)


if yaml.__with_libyaml__:

    class _FastLoader(_Limited, yaml.CSafeLoader):
        """Reads a text with libyaml, about seven times as fast as `_Loader`."""

        def __init__(self, stream: str) -> None:
            yaml.CSafeLoader.__init__(self, stream)
            _Limited.__init__(self)

else:
    _FastLoader = _Loader  # type: ignore[misc, assignment]

# The scalars of YAML 1.2: "no" and "off" are text, 010 is ten.
_Loader.yaml_implicit_resolvers = {}
_FastLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
):
    for _kind in (_Loader, _FastLoader):
        _kind.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


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
        before = first_line - 1
        try:
            node = _compose(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = mark.line + 1 if mark else 1
            raise self.problem(path, before + line, f"is not YAML: {error.problem}") from error
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            what = f"is not YAML: the character U+{error.character:04X} is not allowed"
            raise self.problem(path, before + line, what) from error
        except _TooLargeError as error:
            raise self.problem(path, before + error.line, _TOO_MUCH) from error
        except RecursionError as error:
            raise self.problem(path, first_line, _TOO_MUCH) from error
        if node is None:
            raise self.problem(path, first_line, "is empty")
        lines: dict[FieldPath, int] = {}
        value = _Converter(self, path, lines, before).convert(node, ())
        return YamlSource(path, value, lines)

    def problem(self, path: Path, line: int, what: str) -> InvalidInputError:
        """Return (not raise) an error about a line of a file; `what` is the problem, such as `is empty`."""
        return self.error(f"{path}:{line}: {what}.", problems=((f"{path}:{line}", what),))


def _compose(text: str) -> yaml.Node | None:
    """Return the root node of the YAML document in a text; None if the text is empty.

    Raises:
        yaml.MarkedYAMLError, yaml.reader.ReaderError: the text is not YAML; the message is PyYAML's.
        _TooLargeError: the text has too many or too deeply nested nodes.
    """
    try:
        found: yaml.Node | None = yaml.compose(text, Loader=_FastLoader)
    except yaml.YAMLError:
        # PyYAML's own parser names the mistake and reads the surrogate pairs of JSON.
        found = yaml.compose(text, Loader=_Loader)
    return found


class _Converter:
    def __init__(self, reader: YamlReader, path: Path, lines: dict[FieldPath, int], before: int) -> None:
        self._reader = reader
        self._path = path
        self._lines = lines
        self._before = before
        self._chars = 0

    def convert(self, node: yaml.Node, field: FieldPath) -> Any:
        line = self._line(node)
        self._lines[field] = line
        # With aliases, a few bytes can represent any number of values, so the values are counted again.
        if len(self._lines) > MAX_NODES or len(field) > MAX_DEPTH:
            raise self._problem(line, _TOO_MUCH)
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
            line = self._line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._problem(line, "a key is not text")
            key = self._text(key_node.value, line)
            if key == "<<" and not key_node.style:
                raise self._problem(line, "YAML 1.2 has no merge key (<<); write the fields out")
            self._check_yaml_1_1(key_node, line)
            if key in found:
                raise self._problem(line, f"the key {key!r} occurs twice")
            found[key] = self.convert(value_node, (*field, key))
            self._lines[*field, key] = line
        return found

    def _scalar(self, node: yaml.ScalarNode, line: int) -> Any:
        self._check_yaml_1_1(node, line)
        construct = _CONSTRUCTORS.get(node.tag)
        if construct is None:
            raise self._problem(line, f"the tag {node.tag} is not a plain value")
        try:
            return construct(self._text(node.value, line))
        except ValueError as error:
            raise self._problem(line, f"cannot read {node.value[:60]!r}: {error}") from error

    def _text(self, text: str, line: int) -> str:
        self._chars += len(text)
        if self._chars > self._reader.max_bytes:
            raise self._problem(line, f"has more than {self._reader.max_bytes:,} characters in its values")
        # JSON escapes a character above U+FFFF as a surrogate pair, which YAML reads as two characters.
        text = _PAIR.sub(_joined, text)
        # Reject NUL and lone surrogates, because paths, variables and JSON documents cannot contain them.
        if _NO_TEXT.search(text):
            raise self._problem(line, f"{text[:60]!r} contains an invalid character")
        return text

    def _check_tag(self, node: yaml.Node, tag: str) -> None:
        if node.tag != tag:
            raise self._problem(self._line(node), f"the tag {node.tag} is not a plain value")

    def _check_yaml_1_1(self, node: yaml.ScalarNode, line: int) -> None:
        """If `refuses_yaml_1_1` is set, reject an unquoted scalar that YAML 1.1 would read as another value."""
        if not self._reader.refuses_yaml_1_1 or node.style or not _differs_in_yaml_1_1(node):
            return
        what = f"YAML 1.1 does not take {node.value[:60]!r} for the same value; write true, false or a decimal number"
        raise self._problem(line, f"{what}, or put it in quotes")

    def _line(self, node: yaml.Node) -> int:
        return self._before + node.start_mark.line + 1

    def _problem(self, line: int, what: str) -> InvalidInputError:
        return self._reader.problem(self._path, line, what)


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
_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def _joined(pair: re.Match[str]) -> str:
    return pair.group().encode("utf-16", "surrogatepass").decode("utf-16")


def _differs_in_yaml_1_1(node: yaml.ScalarNode) -> bool:
    text: str = node.value
    if node.tag == "tag:yaml.org,2002:int":
        return text.lstrip("+-").startswith("0") and text.lstrip("+-") != "0"
    if node.tag not in {"tag:yaml.org,2002:str", "tag:yaml.org,2002:float"}:
        return False
    resolvers: list[tuple[str, re.Pattern[str]]] = yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], [])
    # If no pattern matches, YAML 1.1 reads a text, for example for 1e3 and -.5.
    is_special = any(pattern.match(text) for _, pattern in resolvers)
    return not is_special if node.tag == "tag:yaml.org,2002:float" else is_special


def nearest(name: str, known: Sequence[str]) -> str:
    """Return ` (did you mean …?)` with the most similar known name, for an error message.

    Return an empty text if no name is similar.
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
