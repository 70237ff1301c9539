"""Compare two flag contents and list the differences; pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from relab.core.json import JsonValue, canonical_json
from relab.flags.models import FlagDifference


def differences(before: JsonValue, after: JsonValue, path: str = "") -> Iterator[FlagDifference]:
    """Yield the differences between two JSON documents, ordered by path; equal documents yield nothing.

    Objects are compared by field, lists by position, and other values by their canonical JSON: 1 and 1.0 differ.

    Args:
        before: the first document.
        after: the second document.
        path: a JSON pointer that is put in front of all paths in the result; empty for whole documents.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            here = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
            if name not in before:
                yield FlagDifference(path=here, change="added", before=None, after=after[name])
            elif name not in after:
                yield FlagDifference(path=here, change="removed", before=before[name], after=None)
            else:
                yield from differences(before[name], after[name], here)
    elif isinstance(before, list) and isinstance(after, list):
        shared = min(len(before), len(after))
        for index in range(shared):
            yield from differences(before[index], after[index], f"{path}/{index}")
        for index in range(shared, len(before)):
            yield FlagDifference(path=f"{path}/{index}", change="removed", before=before[index], after=None)
        for index in range(shared, len(after)):
            yield FlagDifference(path=f"{path}/{index}", change="added", before=None, after=after[index])
    elif canonical_json(before) != canonical_json(after):
        yield FlagDifference(path=path, change="changed", before=before, after=after)
