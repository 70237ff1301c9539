"""The YAML reader: line numbers for every part, YAML 1.2 types, and limits against hostile files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.core.errors import InvalidInputError
from relab.core.yaml_limits import MAX_BYTES, MAX_NODES
from relab.core.yaml_source import YamlReader, nearest


class OddFileError(InvalidInputError):
    """The error class that the reader under test raises."""


class NoFileError(InvalidInputError):
    """The error class for a missing file."""


PATH = Path("experiment.yaml")
READER = YamlReader(OddFileError)
TEXT = st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n")


def value(text: str) -> Any:
    return READER.parse(text, PATH).value


def refusal(text: str) -> str:
    with pytest.raises(OddFileError) as caught:
        READER.parse(text, PATH)
    assert caught.value.problems, "a problem is named by itself too"
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("010", 10),
        ("0o10", "0o10"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2026-01-01", "2026-01-01"),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("+3", 3),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("~", None),
        ("null", None),
        ("", None),
        ("'null'", "null"),
        ('"010"', "010"),
        ("!!str 010", "010"),
        ("=", "="),
        ("|\n  a\n  b", "a\nb"),
    ],
)
def test_scalars_have_their_yaml_1_2_types(text: str, expected: object) -> None:
    found = value(f"a: {text}")["a"]

    assert found == expected
    assert type(found) is type(expected)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(TEXT),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(TEXT), inner, max_size=4),
    ),
    st.booleans(),
)
def test_json_is_read_with_the_same_value(content: Any, escaped: bool) -> None:
    assert value(json.dumps(content, ensure_ascii=escaped)) == content


def test_every_part_has_its_line() -> None:
    source = READER.parse("a: 1\nb:\n  # why\n  - x\n  - c: {d: 2,\n      e: 3}\n", PATH)

    assert source.line_of(("a",)) == 1
    assert source.line_of(("b",)) == 2
    assert source.line_of(("b", 0)) == 4
    assert source.line_of(("b", 1, "c", "e")) == 6
    assert source.place(("b", 1, "c", "e")) == "experiment.yaml:6: b.1.c.e"
    # A missing field has the line of its nearest existing parent.
    assert source.place(("b", 1, "c", "f", "g")) == "experiment.yaml:5: b.1.c.f.g"
    assert source.place(()) == "experiment.yaml:1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3", "experiment.yaml:3: the key 'a' occurs twice"),
        ("a:\n  b: 1\n  'b': 2", "experiment.yaml:3: the key 'b' occurs twice"),
        ("a: 1\n? [x]\n: 2", "experiment.yaml:2: a key is not text"),
        ("a: 1\nb: [1", "experiment.yaml:2: is not YAML"),
        ("a: 1\n\tb: 2", "experiment.yaml:2: is not YAML"),
        ("a: 1\n---\nb: 2", "experiment.yaml:2: is not YAML"),
        ("a: *nobody", "experiment.yaml:1: is not YAML"),
        ("a: 1\nb: \x01", "experiment.yaml:2: is not YAML: the character U+0001"),
        ('a: 1\nb: "\\U00110000"', "experiment.yaml:2: is not YAML: found invalid Unicode character escape code"),
        ('a: 1\nb: "\\UFFFFFFFF"', "experiment.yaml:2: is not YAML: found invalid Unicode character escape code"),
        ("# nothing\n", "experiment.yaml:1: is empty"),
        ("", "experiment.yaml:1: is empty"),
        ("a: 1\nb: !!python/object/apply:os.system ['id']", "experiment.yaml:2: the tag"),
        ("a: !!python/name:os.system ''", "experiment.yaml:1: the tag"),
        ("a: !mine {b: 1}", "experiment.yaml:1: the tag !mine"),
        ("a: !!set {b, c}", "experiment.yaml:1: the tag"),
        ("a: !!omap [b: 1]", "experiment.yaml:1: the tag"),
        ("a: !!binary aGk=", "experiment.yaml:1: the tag"),
        ("a: !!timestamp 2026-01-01", "experiment.yaml:1: the tag"),
        ("a: !!int ten", "experiment.yaml:1: cannot read 'ten'"),
        ("a: !!bool perhaps", "experiment.yaml:1: cannot read 'perhaps'"),
        ("a: !!null something", "experiment.yaml:1: cannot read 'something'"),
        ("a: !!float .nan", "experiment.yaml:1: cannot read '.nan'"),
        ("a: !!float nan", "experiment.yaml:1: cannot read 'nan'"),
        ("a: 1\nb: 1e999", "experiment.yaml:2: cannot read '1e999': beyond the range"),
        (f"a: {'9' * 400}", "experiment.yaml:1: cannot read"),
        (f"a: {'9' * 5000}", "experiment.yaml:1: cannot read"),
        ('a: "x\\0y"', "experiment.yaml:1: 'x\\x00y' contains an invalid character"),
        ('a: "\\ud800"', "experiment.yaml:1: '\\ud800' contains an invalid character"),
        ('"x\\0y": 1', "experiment.yaml:1: 'x\\x00y' contains an invalid character"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "experiment.yaml:3: YAML 1.2 has no merge key"),
    ],
)
def test_error_names_its_line(text: str, expected: str) -> None:
    assert refusal(text).startswith(expected)


def test_an_alias_is_a_copy() -> None:
    assert value("a: &x [1, 2]\nb: *x") == {"a": [1, 2], "b": [1, 2]}


def test_a_quoted_merge_key_is_a_key() -> None:
    assert value("'<<': 1") == {"<<": 1}


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]

    assert "more values, or deeper ones" in refusal("\n".join(lines))


def test_a_bomb_of_long_aliases_is_refused() -> None:
    text = "a: &a " + "x" * 100_000 + "\nb: [" + ", ".join(["*a"] * 1_000) + "]"

    assert "characters in its values" in refusal(text)


@pytest.mark.parametrize(
    "text", ["- 1\n" * (2 * MAX_NODES + 2), "[" + "[]," * (2 * MAX_NODES + 2)], ids=["list", "flow"]
)
def test_nodes_beyond_the_limit_are_refused_before_the_rest_is_composed(text: str) -> None:
    # The end of the text is invalid YAML, which a reader that composes the whole text would report instead.
    with pytest.raises(OddFileError) as caught:
        READER.parse(text + "]: [", PATH)
    assert f"{MAX_NODES:,}" in caught.value.problems[0][1]


def test_nesting_beyond_the_limit_is_refused_at_its_line_before_the_rest_is_composed() -> None:
    with pytest.raises(OddFileError, match=r":10\d: .*nested 100 deep"):
        READER.parse("".join(" " * depth + "a:\n" for depth in range(500)) + "]", PATH)


def test_an_alias_of_itself_is_refused() -> None:
    assert "more values, or deeper ones" in refusal("a: &a [*a]")


@pytest.mark.parametrize("text", ["[" * 500 + "]" * 500, "[" * 50_000, "{a: " * 5_000, "- " * 5_000])
def test_deep_nesting_is_refused(text: str) -> None:
    assert refusal(text).startswith("experiment.yaml:1: ")


def test_unreadable_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(OddFileError, match=r"no file .*none\.yaml"):
        READER.read(tmp_path / "none.yaml")
    with pytest.raises(OddFileError, match="Is a directory"):
        READER.read(tmp_path)
    path = tmp_path / "latin.yaml"
    path.write_bytes("a: 1\nb: café".encode("latin-1"))
    with pytest.raises(OddFileError) as caught:
        READER.read(path)
    assert caught.value.problems[0][0] == f"{path}:2"
    assert "UTF-8" in caught.value.problems[0][1]
    path.write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(OddFileError) as caught:
        READER.read(path)
    assert caught.value.problems == ((f"{path}:1", f"is larger than {MAX_BYTES:,} bytes"),)


def test_endless_device_is_rejected_and_a_large_file_is_read_only_up_to_the_limit(tmp_path: Path) -> None:
    reader = YamlReader(OddFileError, max_bytes=1_000)
    with pytest.raises(OddFileError, match="/dev/zero cannot be read: Not a regular file"):
        reader.read(Path("/dev/zero"))
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 40)
    with pytest.raises(OddFileError) as caught:
        reader.read(tmp_path / "large")
    assert caught.value.problems == ((f"{tmp_path}/large:1", "is larger than 1,000 bytes"),)


def test_missing_file_can_have_its_own_error_class(tmp_path: Path) -> None:
    reader = YamlReader(OddFileError, missing=NoFileError, missing_remedy="Make one.")

    with pytest.raises(NoFileError) as caught:
        reader.read(tmp_path / "none.yaml")
    assert "none.yaml" in caught.value.message
    assert caught.value.remedy == "Make one."


def test_part_of_a_file_keeps_the_line_numbers_of_the_file() -> None:
    source = READER.parse("a: 1\nb: 2", PATH, first_line=11)

    assert source.line_of(("b",)) == 12
    assert source.line_of(()) == 11
    with pytest.raises(OddFileError) as caught:
        READER.parse("a: 1\na: 2", PATH, first_line=11)
    assert caught.value.problems[0][0] == "experiment.yaml:12"
    assert "'a'" in caught.value.problems[0][1]
    with pytest.raises(OddFileError) as caught:
        READER.parse("a: 1\nb: [", PATH, first_line=11)
    assert caught.value.problems[0][0] == "experiment.yaml:12"
    assert "is not YAML" in caught.value.problems[0][1]


def test_surrogate_pair_is_one_character() -> None:
    assert value('{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


@pytest.mark.parametrize(
    "text", ["a: yes", "a: Off", "on: 1", "a: 0x10", "a: 010", "a: 1_000", "a: 12:30:45", "a: 2026-01-01", "a: .inf"]
)
def test_scalars_that_yaml_1_1_reads_differently_are_rejected_on_request(text: str) -> None:
    with pytest.raises(OddFileError) as caught:
        YamlReader(OddFileError, refuses_yaml_1_1=True).parse(text, PATH)
    assert caught.value.problems[0][0] == "experiment.yaml:1"
    assert "YAML 1.1" in caught.value.problems[0][1]
    assert value(text)


@pytest.mark.parametrize("text", ["a: 'yes'", "a: 0", "a: -1", "a: 1.5", "a: yesterday", "a: true", "a: ", "'on': ~"])
def test_scalars_that_both_versions_read_alike_are_accepted(text: str) -> None:
    assert YamlReader(OddFileError, refuses_yaml_1_1=True).parse(text, PATH).value == value(text)


def test_a_byte_order_mark_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: two\r\n")
    source = READER.read(path)

    assert source.value == {"a": 1, "b": "two"}
    assert source.line_of(("b",)) == 2


def test_nearest_name_is_suggested() -> None:
    assert nearest("replicatons", ["replications", "random_seed"]) == " (did you mean 'replications'?)"
    assert nearest("zzz", ["replications"]) == ""
