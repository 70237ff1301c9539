"""Versions of the target's settings: merge, replacement, rollback, and masked secrets in the history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.core.errors import InvalidInputError
from relab.testbed.errors import StaleVersionError, UnknownVersionError
from relab.testbed.supervisor.settings_store import SettingsStore, differences, mask
from support.clocks import MovableClock

FIRST: dict[str, Any] = {"workers": 2, "database": {"password": "s3cret", "pool_size": 10}, "token": None}
DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "password", "token"]), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def store(tmp_path: Path) -> SettingsStore:
    made = SettingsStore(tmp_path / "settings", MovableClock())
    made.begin(FIRST)
    return made


def test_new_history_starts_at_version_one_without_old_versions(store: SettingsStore) -> None:
    store.merge({"workers": 3}, author="ops", note="more")
    store.begin(FIRST)

    assert store.current() == {**FIRST, "version": 1}
    assert [item.version for item in store.history()] == [1]
    with pytest.raises(UnknownVersionError):
        store.roll_back(2, author="ops", note="")


def test_change_that_cannot_be_stored_does_not_take_effect(store: SettingsStore, tmp_path: Path) -> None:
    history = tmp_path / "settings" / "history.jsonl"
    history.unlink()
    # As on a full disk, the history cannot be written.
    history.mkdir()

    with pytest.raises(OSError, match="directory"):
        store.merge({"workers": 3}, author="ops", note="more")

    assert store.current() == {**FIRST, "version": 1}


def test_version_that_was_not_stored_completely_is_replaced(store: SettingsStore, tmp_path: Path) -> None:
    current = tmp_path / "settings" / "target.json"
    before = current.read_bytes()
    store.merge({"workers": 3}, author="ops", note="lost")
    # As if the disk had been full at the last step of the change.
    current.write_bytes(before)

    assert [item.version for item in store.history()] == [1]
    with pytest.raises(UnknownVersionError):
        store.roll_back(2, author="ops", note="")
    store.merge({"workers": 4}, author="ops", note="stored")
    assert [(item.version, item.note) for item in store.history()] == [(1, "the testbed was made"), (2, "stored")]


def test_changes_are_merged_into_nested_fields(store: SettingsStore) -> None:
    made = store.merge({"database": {"pool_size": 2}}, author="ops", note="less")

    assert store.current()["database"] == {"password": "s3cret", "pool_size": 2}
    assert made.version == 2
    assert made.author == "ops"
    assert made.note == "less"
    assert made.changes == {"database.pool_size": {"from": 10, "to": 2}}
    assert store.history()[-1] == made


def test_changed_secret_is_listed_but_masked(store: SettingsStore, tmp_path: Path) -> None:
    store.merge({"database": {"password": "hunter2"}, "token": "hunter3"}, author="ops", note="")

    assert store.history()[-1].changes == {
        "database.password": {"from": "***", "to": "***"},
        "token": {"from": None, "to": "***"},
    }
    assert "hunter" not in (tmp_path / "settings" / "history.jsonl").read_text()
    assert (tmp_path / "settings" / "target.json").stat().st_mode & 0o077 == 0


def test_rolling_back_is_a_new_version_with_old_content(store: SettingsStore) -> None:
    store.merge({"workers": 3}, author="ops", note="")
    store.replace({"workers": "many"}, author="ops", note="bad on purpose")

    assert store.roll_back(None, author="ops", note="").note == "back to version 2"
    assert store.current() == {**FIRST, "workers": 3, "version": 4}
    assert store.roll_back(1, author="ops", note="").version == 5
    assert store.current() == {**FIRST, "version": 5}


def test_change_of_a_stale_version_is_rejected(store: SettingsStore) -> None:
    store.merge({"workers": 3}, author="one", note="", expected_version=1)

    with pytest.raises(StaleVersionError, match="version 2, not 1"):
        store.merge({"workers": 4}, author="two", note="", expected_version=1)
    with pytest.raises(InvalidInputError):
        store.merge({"version": 7}, author="two", note="")
    with pytest.raises(InvalidInputError, match="65,536"):
        store.merge({"note": "x" * 70_000}, author="two", note="")
    assert store.current() == {**FIRST, "workers": 3, "version": 2}


@given(DOCUMENTS)
def test_masking_replaces_every_secret_and_is_idempotent(document: Any) -> None:
    def secrets(value: Any, name: str = "") -> list[Any]:
        if isinstance(value, dict):
            return [found for key, item in value.items() for found in secrets(item, key)]
        return [value] if name in {"password", "token"} and value is not None else []

    masked = mask(document)

    assert set(map(str, secrets(masked))) <= {"***"}
    assert len(secrets(masked)) == len(secrets(document))
    assert json.dumps(mask(masked)) == json.dumps(masked)


def test_equal_documents_do_not_differ() -> None:
    assert differences({"a": {"b": 1}, "version": 1}, {"a": {"b": 1}, "version": 2}) == {}
    assert differences({"a": 1}, {"b": 1}) == {"a": {"from": 1, "to": None}, "b": {"from": None, "to": 1}}


def test_history_is_read_if_a_note_contains_line_separators(store: SettingsStore) -> None:
    store.merge({"workers": 3}, author="ops", note="one\u2028two\x85three\nfour")

    assert store.history()[-1].note == "one\u2028two\x85three\nfour"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", "é" * 40_000])
def test_value_that_cannot_be_stored_is_rejected(store: SettingsStore, value: object) -> None:
    """The last value is within the limit in characters, but not in bytes."""
    with pytest.raises(InvalidInputError):
        store.merge({"workers": value}, author="ops", note="")

    assert store.current() == {**FIRST, "version": 1}
