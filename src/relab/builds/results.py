"""Convert the test results of a build into database rows: limit number and length, and mask secrets.

A key computed from project and name identifies a test.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from relab.builds.models import BuildTest, BuildTestCounts, BuildTestOutcome
from relab.core.masking import mask_secrets

MAX_STORED_TESTS: Final = 5_000
_MAX_NAME: Final = 500
_MAX_MESSAGE: Final = 300
_SIGNED_64: Final = 1 << 63
_ID: Final = re.compile(r"[0-9a-f]{16}")
_WORST_FIRST: Final = (
    BuildTestOutcome.FAILED,
    BuildTestOutcome.FLAKY,
    BuildTestOutcome.PASSED,
    BuildTestOutcome.SKIPPED,
)


def key_of_test(project: str, name: str) -> int:
    """Return the key of a test, a signed 64-bit number, from its project and its name."""
    content = f"{project}\0{name}".encode(errors="replace")
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big", signed=True)


def id_of_key(key: int) -> str:
    """Return the id of a test (16 hexadecimal digits, as in the API) from its key in the database."""
    return f"{key + _SIGNED_64:016x}"


def key_of_id(test_id: str) -> int:
    """Return the key of a test in the database from its id in the API; the inverse of `id_of_key`.

    Raises:
        ValueError: the id does not have 16 hexadecimal digits.
    """
    if _ID.fullmatch(test_id) is None:
        raise ValueError(f"{test_id[:40]!r} does not have 16 hexadecimal digits")
    return int(test_id, 16) - _SIGNED_64


def count_tests(tests: Sequence[BuildTest], left_out: int = 0) -> BuildTestCounts | None:
    """Count a build's tests by outcome, and the results that are not stored; return None if `tests` is empty.

    Args:
        tests: the test results that relab read from the build's log or report.
        left_out: the number of results in the log or report that relab did not read.
    """
    if not tests:
        return None
    counted = Counter(test.outcome.value for test in tests)
    return BuildTestCounts(**counted, left_out=left_out + max(0, len(tests) - MAX_STORED_TESTS))


def rows_of_tests(
    build_id: str, project: str, tests: Iterable[BuildTest], known_failures: Iterable[int]
) -> list[tuple[Any, ...]]:
    """Return the rows of the table `build_tests` for a build: one for each test, at most `MAX_STORED_TESTS`.

    If there are more tests, those that failed or were flaky take precedence, then those in `known_failures`. Secrets
    in names and messages are masked. Of tests with the same name, only the one with the worst outcome has a row.

    Args:
        build_id: the id of the build.
        project: the project of the build.
        tests: the results of its tests.
        known_failures: the keys of tests of the project that failed in earlier builds.
    """
    named: dict[int, BuildTest] = {}
    for test in tests:
        cleaned = test.model_copy(
            update={
                "name": _clean(test.name)[:_MAX_NAME] or "(a test without a name)",
                "message": None if test.message is None else _clean(test.message)[:_MAX_MESSAGE],
            }
        )
        key = key_of_test(project, cleaned.name)
        before = named.get(key)
        # Different names may be the same when secrets are masked.
        if before is None or _WORST_FIRST.index(cleaned.outcome) < _WORST_FIRST.index(before.outcome):
            named[key] = cleaned
    keys: Iterable[int] = named
    if len(named) > MAX_STORED_TESTS:
        # The outcome of a test that failed earlier shows whether it is flaky or fixed.
        known = frozenset(known_failures)
        keys = sorted(named, key=lambda key: _priority(named[key], is_known=key in known))[:MAX_STORED_TESTS]
    return [_row(build_id, project, key, named[key]) for key in keys]


def _priority(test: BuildTest, *, is_known: bool) -> int:
    if test.outcome in {BuildTestOutcome.FAILED, BuildTestOutcome.FLAKY}:
        return 0
    return 1 if is_known else 2


def _row(build_id: str, project: str, key: int, test: BuildTest) -> tuple[Any, ...]:
    outcome = test.outcome.value
    return key, build_id, project, outcome, test.name, test.duration_s, test.message or None, test.line


def _clean(text: str) -> str:
    """Return the text with secrets masked, and without characters that the database rejects."""
    return mask_secrets(text).replace("\x00", "\ufffd").encode(errors="replace").decode()
