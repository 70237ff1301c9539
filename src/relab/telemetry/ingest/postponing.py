"""Decide when the run of a trace is projected (computed from its spans), after its spans were stored.

The commit that acknowledges a batch of spans only stores them and marks their runs as unprojected (`UNPROJECTED`),
unless too many runs are unprojected (`MAX_WAITING`). A reader projects the unprojected runs that it is about to read
(`projector.py`), and a worker projects runs when they are due. Every projection reads all spans of its trace. Therefore
the larger a growing trace is, the more rarely it becomes due, so that the total time grows only linearly with the
number of spans. See docs/design/ingest-speed.md.
"""

from __future__ import annotations

from typing import Final

from relab.storage.session import DatabaseSession
from relab.telemetry.projection import projection_repository
from relab.telemetry.tables import FormerRun

QUIET_US: Final = 250_000
"""A trace is due when it received nothing for this time, in microseconds; exporters send the batches of a trace in shorter intervals."""
MIN_ITEMS: Final = 1_000
"""A run that had fewer timeline items at its last projection is due whenever its trace is quiet."""
GROWTH: Final = 1.5
"""A larger trace is due when it has this many times the size of its last projection, whether it is quiet or not."""
LARGE_QUIET_US_PER_ITEM: Final = 5_000
"""Until then, or until its root span arrives, a larger trace is due after this quiet time for each of its items: a hundred times
    the time of a projection."""
MAX_WAITING: Final = 50_000
"""The size (`size_of`) of all unprojected runs together. A reader of lists or sums projects these runs first, which takes at most a
few seconds; beyond the limit each batch is projected at once."""
_BYTES_PER_UNIT: Final = 4_096
_LOOK_EVERY: Final = 5_000
"""The size of spans that this process stores before it reads the size of all unprojected runs again."""


def size_of(raw: bytes) -> int:
    """Return the size of a span, given as protobuf bytes: 1, plus 1 for each full 4,096 bytes.

    The sum of the sizes of a trace's spans is a measure of the time that computing its run takes.
    """
    return 1 + len(raw) // _BYTES_PER_UNIT


def due_us(former: FormerRun | None, size: int, *, has_root: bool, now_us: int) -> int:
    """Return when to compute the run of a trace that has just received spans, in microseconds since 1970.

    The run is due after `QUIET_US` if at least one of these is true. Otherwise, the larger the run is, the later it is
    due.

    - The trace is new or small, or may have ended.
    - The trace has grown much since its run was last computed. If the run was due earlier, that time stays.
    - The run was already due within `QUIET_US` of its last change.

    Args:
        former: the stored run of the trace; None if the trace is new.
        size: the approximate size of the trace: 1 for each span, plus 1 for each full 4,096 bytes of the span.
        has_root: whether one of the new spans has no parent, so that the run may have ended.
        now_us: the current time, in microseconds since 1970.
    """
    soon = now_us + QUIET_US
    if former is None or former.items < MIN_ITEMS > size:
        return soon
    was_due = former.project_at
    if size >= max(MIN_ITEMS, former.items * GROWTH):
        return soon if was_due is None else min(soon, was_due)
    if has_root or (was_due is not None and was_due <= former.updated_at + QUIET_US):
        return soon
    return now_us + former.items * LARGE_QUIET_US_PER_ITEM


class Backlog:
    """Decides whether runs are computed from new spans later, or in the transaction that stores the spans.

    They are computed later if the total size of all uncomputed runs, of all processes, is at most about `MAX_WAITING`.
    The size of a run is the size of its spans: 1 for each, plus 1 for each full 4,096 bytes of the span. The object is
    not thread-safe.
    """

    def __init__(self) -> None:
        self._known = 0
        self._added = _LOOK_EVERY

    def has_room(self, session: DatabaseSession, size: int) -> bool:
        """Add `size` to the total size of all uncomputed runs; return whether the total is within the limit.

        `size` is the size of spans that were just stored: 1 for each, plus 1 for each full 4,096 bytes of the span. What
        other processes store is included only when the total is read from the database again, so the total is not exact.
        """
        self._added += size
        # The total of all processes is read from the database only now and then.
        if self._added >= _LOOK_EVERY or self._known + self._added > MAX_WAITING:
            self._known, self._added = projection_repository.waiting_size(session), 0
        return self._known + self._added <= MAX_WAITING
