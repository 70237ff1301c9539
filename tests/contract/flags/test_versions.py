"""Versions of flags: each change adds a complete version and earlier ones stay; conflicts, archives and rollbacks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from relab.core.errors import InvalidInputError
from relab.core.json import canonical_json, digest
from relab.flags.errors import (
    FlagArchivedError,
    FlagExistsError,
    FlagNotFoundError,
    FlagVersionNotFoundError,
    StaleFlagVersionError,
)
from relab.flags.models import FlagContent, FlagVersion
from relab.flags.service import MAX_CONTENT_BYTES, FlagService
from relab.storage import Database
from support.flags.contents import Document, content, documents, rule

_numbers = itertools.count()


def stored(database: Database) -> list[Any]:
    with database.read() as session:
        flags = session.execute(text("SELECT * FROM flags ORDER BY key")).all()
        versions = session.execute(text("SELECT * FROM flag_versions ORDER BY key, version")).all()
    return [[tuple(map(str, row)) for row in rows] for rows in (flags, versions)]


def written(flag: FlagVersion) -> str:
    return canonical_json(flag.model_dump(mode="json"))


def test_a_new_flag_is_at_version_one(flags: FlagService, key: str) -> None:
    made = flags.create(key, content(), author="ann", note="why")

    assert made == flags.get(key) == flags.get_version(key, 1)
    assert made.version == 1
    assert made.action == "created"
    assert made.author == "ann"
    assert made.note == "why"
    assert made.restored_version is None
    assert made.digest == digest(made.content.model_dump(mode="json"))


def test_every_change_is_a_version_and_the_old_ones_stay(flags: FlagService, key: str) -> None:
    first = flags.create(key, content(), author="ann")
    second = flags.update(key, content(default_variant="on"), expected={1}, author="bob", note="on for all")
    third = flags.archive(key, expected={1, 2}, author="ann")
    fourth = flags.rollback(key, 1, expected=None, author="eve")

    assert [flags.get_version(key, number) for number in (1, 2, 3, 4)] == [first, second, third, fourth]
    history = flags.history(key)
    assert [(item.version, item.action, item.restored_version, item.author) for item in history.items] == [
        (4, "rolled_back", 1, "eve"),
        (3, "archived", None, "ann"),
        (2, "updated", None, "bob"),
        (1, "created", None, "ann"),
    ]
    assert history.next_before is None
    assert flags.get(key) == fourth
    assert fourth.content == first.content
    assert fourth.digest == first.digest
    assert third.content == second.content


def test_change_that_expects_another_version_is_rejected(flags: FlagService, flag_database: Database, key: str) -> None:
    flags.create(key, content(), author="ann")
    flags.update(key, content(default_variant="on"), expected={1}, author="ann")
    before = stored(flag_database)

    changes: tuple[Callable[[], object], ...] = (
        lambda: flags.update(key, content(), expected={1}, author="bob"),
        lambda: flags.update(key, content(), expected=set(), author="bob"),
        lambda: flags.rollback(key, 1, expected={1, 3}, author="bob"),
        lambda: flags.archive(key, expected={3}, author="bob"),
    )
    for change in changes:
        with pytest.raises(StaleFlagVersionError) as caught:
            change()
        assert caught.value.code == "stale_flag_version"
        assert "version 2" in caught.value.message
    assert stored(flag_database) == before


def test_archived_flag_has_no_value_and_accepts_only_a_rollback(flags: FlagService, key: str) -> None:
    flags.create(key, content(), author="ann")
    flags.archive(key, expected=None, author="ann")

    changes: tuple[Callable[[], object], ...] = (
        lambda: flags.update(key, content(), expected=None, author="ann"),
        lambda: flags.archive(key, expected=None, author="ann"),
    )
    for change in changes:
        with pytest.raises(FlagArchivedError) as caught:
            change()
        assert caught.value.code == "flag_archived"
        assert "version 2" in caught.value.message
    with pytest.raises(FlagExistsError):
        flags.create(key, content(), author="ann")
    with pytest.raises(FlagNotFoundError, match="is archived, so it has no value"):
        flags.evaluate(key, {})
    assert key not in {item.key for item in flags.list_flags(limit=500).items}
    assert key not in {result.key for result in flags.evaluate_all({})}
    assert [item.is_archived for item in flags.list_flags(with_archived=True, limit=500).items if item.key == key] == [
        True
    ]

    flags.rollback(key, 2, expected={2}, author="ann")
    assert flags.evaluate(key, {}).version == 3


@pytest.mark.parametrize("unknown", ["none", "", "a/b", "a\0b", "x" * 10_000, "é", "a\n", "\ud800"])
def test_unknown_flag_is_not_found(flags: FlagService, unknown: str) -> None:
    for ask in (
        lambda: flags.get(unknown),
        lambda: flags.get_version(unknown, 1),
        lambda: flags.history(unknown),
        lambda: flags.diff(unknown, 1, 2),
        lambda: flags.evaluate(unknown, {}),
        lambda: flags.update(unknown, content(), expected=None, author="a"),
        lambda: flags.rollback(unknown, 1, expected=None, author="a"),
        lambda: flags.archive(unknown, expected=None, author="a"),
    ):
        with pytest.raises(FlagNotFoundError):
            ask()


@pytest.mark.parametrize("version", [0, -1, 2, 2**31, 2**63])
def test_unknown_version_is_not_found(flags: FlagService, flag_database: Database, key: str, version: int) -> None:
    flags.create(key, content(), author="ann")
    before = stored(flag_database)

    for ask in (
        lambda: flags.get_version(key, version),
        lambda: flags.diff(key, version, 1),
        lambda: flags.rollback(key, version, expected=None, author="ann"),
    ):
        with pytest.raises(FlagVersionNotFoundError, match=str(version)):
            ask()
    assert stored(flag_database) == before


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"key": "a b"}, "key"),
        ({"key": ""}, "key"),
        ({"key": "x" * 201}, "key"),
        ({"key": "-a"}, "key"),
        ({"key": "a\n"}, "key"),
        ({"author": ""}, "author"),
        ({"author": "x" * 201}, "author"),
        ({"author": "a\0"}, "content"),
        ({"note": "x" * 1_001}, "note"),
        ({"note": "\ud800"}, "content"),
        ({"content": content(description="a\0")}, "content"),
        ({"content": content(value_type="string", variants={"off": "\udfff"})}, "content"),
        ({"content": content(value_type="string", variants={"off": "x" * 70_000})}, "content"),
        ({"content": content(value_type="object", variants={"off": {"a\0": 1}})}, "content"),
    ],
)
def test_text_that_a_database_rejects_is_rejected_before_the_write(
    flags: FlagService, flag_database: Database, key: str, fields: dict[str, Any], field: str
) -> None:
    before = stored(flag_database)

    with pytest.raises(InvalidInputError) as refusal:
        flags.create(**{"key": key, "content": content(), "author": "ann", "note": "", **fields})

    assert field in [name for name, _ in refusal.value.problems]
    assert stored(flag_database) == before


def test_texts_and_content_of_the_largest_size_are_stored(flags: FlagService, key: str) -> None:
    empty = content(value_type="string", variants={"off": ""})
    room = MAX_CONTENT_BYTES - len(canonical_json(empty.model_dump(mode="json")).encode())
    largest, larger = (content(value_type="string", variants={"off": "x" * size}) for size in (room, room + 1))
    longest_key = key.ljust(200, "x")

    made = flags.create(longest_key, largest, author="a" * 200, note="n" * 1_000)

    assert flags.get(longest_key) == made
    with pytest.raises(InvalidInputError, match="65,537"):
        flags.update(longest_key, larger, expected=None, author="ann")


def test_pages_of_flags_are_in_byte_order_of_the_keys(flags: FlagService) -> None:
    names = ["P-a", "P-b", "P.a", "P0", "PA", "P_a", "Pa", "Pa.b", "Paa"]
    for name in reversed(names):
        flags.create(f"zz{name}", content(), author="ann")

    pages: list[list[str]] = []
    after: str | None = "zz"
    while after is not None:
        page = flags.list_flags(after=after, limit=2)
        pages.append([item.key.removeprefix("zz") for item in page.items])
        after = page.next_after

    assert [len(page) for page in pages] == [2, 2, 2, 2, 1]
    assert [name for page in pages for name in page] == sorted(names)
    bulk = [result.key for result in flags.evaluate_all({"targetingKey": "x"})]
    assert bulk == sorted(bulk)


def test_a_history_has_pages(flags: FlagService, key: str) -> None:
    flags.create(key, content(), author="ann")
    for number in range(1, 6):
        flags.update(key, content(), expected={number}, author="ann", note=str(number))

    first = flags.history(key, limit=4)
    rest = flags.history(key, before=first.next_before, limit=4)

    assert [item.version for item in first.items] == [6, 5, 4, 3]
    assert [item.version for item in rest.items] == [2, 1]
    assert rest.next_before is None


def test_two_versions_are_compared(flags: FlagService, key: str) -> None:
    flags.create(key, content(), author="ann")
    flags.update(key, content(rules=[rule(variant="on")], description="d"), expected={1}, author="ann")

    found = flags.diff(key, 1, 2)

    assert [(item.path, item.change) for item in found.differences] == [
        ("/description", "changed"),
        ("/rules/0", "added"),
    ]
    assert flags.diff(key, 2, 2).differences == []


def test_error_of_one_flag_does_not_affect_the_evaluation_of_others(flags: FlagService, key: str) -> None:
    flags.create(f"{key}.split", content(rules=[rule(on=10_000)]), author="ann")
    flags.create(f"{key}.static", content(), author="ann")

    without = {result.key: result for result in flags.evaluate_all({})}
    with_key = {result.key: result for result in flags.evaluate_all({"targetingKey": "x"})}

    assert getattr(without[f"{key}.split"], "code", None) == "targeting_key_missing"
    assert getattr(without[f"{key}.static"], "reason", None) == "STATIC"
    assert with_key[f"{key}.split"] == flags.evaluate(f"{key}.split", {"targetingKey": "x"})


@settings(max_examples=20)
@given(made=st.lists(documents(), min_size=1, max_size=4), data=st.data())
def test_every_version_is_read_back_and_a_rollback_restores_its_content(
    flags: FlagService, made: list[Document], data: st.DataObject
) -> None:
    key = f"any-{next(_numbers)}"
    contents = [FlagContent.model_validate(item) for item in made]
    line: list[FlagVersion] = [flags.create(key, contents[0], author="ann")]
    for number, item in enumerate(contents[1:], 1):
        line.append(flags.update(key, item, expected={number}, author="ann"))
    to = data.draw(st.integers(1, len(line)))

    line.append(flags.rollback(key, to, expected={len(line)}, author="bob"))

    # The written JSON is compared, because Python treats 1, 1.0 and True as equal.
    assert [written(flags.get_version(key, item.version)) for item in line] == [written(item) for item in line]
    assert [item.version for item in line] == list(range(1, len(line) + 1))
    assert flags.get(key).content == contents[to - 1]
    assert line[-1].digest == line[to - 1].digest
    assert line[-1].restored_version == to
    assert flags.diff(key, to, len(line)).differences == []
