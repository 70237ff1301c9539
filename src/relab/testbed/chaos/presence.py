"""Test whether an injected fault is still present.

A responder (the program under test) can neither see nor influence these tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from relab.core.errors import RelabError
from relab.testbed.supervisor.settings_store import flat


class Presence:
    """Tests whether one injected fault is still present.

    The caller must create this object before the injection of the fault, and call `begun` right after the injection.

    Args:
        query: returns whether the fault is present; raises `RelabError` or `OSError` if that cannot be determined.
    """

    def __init__(self, query: Callable[[], bool]) -> None:
        self._query = query

    def begun(self) -> None:
        """Record the state right after the injection, if `is_there` needs it for comparison.

        This base class needs no record and does nothing; subclasses override this method.
        """

    def is_there(self) -> bool | None:
        """Return whether the fault is present; None if the component that must be queried does not answer."""
        try:
            return self._query()
        except (RelabError, OSError):
            return None


class ChangedDocument(Presence):
    """Tests whether a fault that changed values of a nested document (settings or flags) is still present.

    The fault is present as long as every changed value is still the one that the fault has set.

    Args:
        read: returns the current document, as `{section: {name: value}}`.
    """

    def __init__(self, read: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(self._is_unchanged)
        self._read = read
        self._before = flat(read())
        self._made: dict[str, Any] = {}

    def begun(self) -> None:
        """Record the values that the fault has set.

        These are the values of the document that differ from those at the creation of this object. The caller must call
        this method right after the injection.
        """
        # Names without a dot are the number and the time of the version, which every change alters.
        self._made = {
            name: value for name, value in flat(self._read()).items() if "." in name and self._before.get(name) != value
        }

    def _is_unchanged(self) -> bool:
        now = flat(self._read())
        return all(now.get(name) == value for name, value in self._made.items())
