"""Parse a YAML 1.2 document within limits, and record the line number of every value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import yaml

from relab.core.errors import InvalidInputError
from relab.core.json import JsonValue
from relab.core.yaml_limits import MAX_DEPTH, MAX_NODES, FieldPath

_TOO_MUCH: Final = f"has more values, or deeper ones, than are read: at most {MAX_NODES:,}, nested {MAX_DEPTH} deep"


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


class ParsedYaml(NamedTuple):
    """The value of a YAML document, and the line number of each field, from 1."""

    value: JsonValue
    lines: dict[FieldPath, int]


def parse_yaml(
    text: str,
    problem: Callable[[int, str], InvalidInputError],
    *,
    max_chars: int,
    refuses_yaml_1_1: bool,
) -> ParsedYaml:
    """Parse a YAML document.

    Args:
        text: the text of the document.
        problem: makes the error to raise from a line number of `text` (from 1) and a problem, such as `is empty`.
        max_chars: the maximum number of characters in the values after aliases are resolved.
        refuses_yaml_1_1: whether to reject scalars that YAML 1.1 and 1.2 read as different values, such as `no`.

    Raises:
        InvalidInputError: the text is not valid YAML, is empty, has more values than `MAX_NODES` and `MAX_DEPTH` allow,
            or contains other values than mappings, lists, texts, numbers, true, false and null. `problem` makes it.
    """
    try:
        node = _compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise problem(mark.line + 1 if mark else 1, f"is not YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise problem(line, f"is not YAML: the character U+{error.character:04X} is not allowed") from error
    except _TooLargeError as error:
        raise problem(error.line, _TOO_MUCH) from error
    except RecursionError as error:
        raise problem(1, _TOO_MUCH) from error
    if node is None:
        raise problem(1, "is empty")
    converter = _Converter(problem, max_chars, refuses_yaml_1_1)
    return ParsedYaml(converter.convert(node, ()), converter.lines)


def _compose(text: str) -> yaml.Node | None:
    """Return the root node of the YAML document in a text; None if the text is empty.

    Raises:
        yaml.MarkedYAMLError, yaml.reader.ReaderError: the text is not YAML; the message is PyYAML's.
        _TooLargeError: the text has too many or too deeply nested nodes.
    """
    try:
        found: yaml.Node | None = yaml.compose(text, Loader=_FastLoader)
    except yaml.YAMLError as error:
        # PyYAML's own parser names the mistake and reads the surrogate pairs of JSON.
        try:
            found = yaml.compose(text, Loader=_Loader)
        except (ValueError, OverflowError):
            # An escape such as "\U00110000" is beyond Unicode; PyYAML passes it to `chr`.
            raise error from None
    return found


class _Converter:
    def __init__(
        self, problem: Callable[[int, str], InvalidInputError], max_chars: int, refuses_yaml_1_1: bool
    ) -> None:
        self.lines: dict[FieldPath, int] = {}
        self._problem = problem
        self._max_chars = max_chars
        self._refuses_yaml_1_1 = refuses_yaml_1_1
        self._chars = 0

    def convert(self, node: yaml.Node, field: FieldPath) -> Any:
        line = _line(node)
        self.lines[field] = line
        # With aliases, a few bytes can represent any number of values, so the values are counted again.
        if len(self.lines) > MAX_NODES or len(field) > MAX_DEPTH:
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
            line = _line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._problem(line, "a key is not text")
            key = self._text(key_node.value, line)
            if key == "<<" and not key_node.style:
                raise self._problem(line, "YAML 1.2 has no merge key (<<); write the fields out")
            self._check_yaml_1_1(key_node, line)
            if key in found:
                raise self._problem(line, f"the key {key!r} occurs twice")
            found[key] = self.convert(value_node, (*field, key))
            self.lines[*field, key] = line
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
        if self._chars > self._max_chars:
            raise self._problem(line, f"has more than {self._max_chars:,} characters in its values")
        # JSON escapes a character above U+FFFF as a surrogate pair, which YAML reads as two characters.
        text = _PAIR.sub(_joined, text)
        # Reject NUL and lone surrogates, because paths, variables and JSON documents cannot contain them.
        if _NO_TEXT.search(text):
            raise self._problem(line, f"{text[:60]!r} contains an invalid character")
        return text

    def _check_tag(self, node: yaml.Node, tag: str) -> None:
        if node.tag != tag:
            raise self._problem(_line(node), f"the tag {node.tag} is not a plain value")

    def _check_yaml_1_1(self, node: yaml.ScalarNode, line: int) -> None:
        """If the document refuses YAML 1.1, reject an unquoted scalar that YAML 1.1 would read as another value."""
        if not self._refuses_yaml_1_1 or node.style or not _differs_in_yaml_1_1(node):
            return
        what = f"YAML 1.1 does not take {node.value[:60]!r} for the same value; write true, false or a decimal number"
        raise self._problem(line, f"{what}, or put it in quotes")


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1


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
