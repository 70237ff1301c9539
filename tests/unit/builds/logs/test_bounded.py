"""A log without an end, or larger than the bound, is rejected; one of exactly the bound is read."""

from __future__ import annotations

import io

import pytest

from relab.builds.ingest.errors import BuildSourceInvalidError
from relab.builds.ingest.reading import read_source
from relab.builds.logs.errors import BuildLogUnreadableError
from relab.builds.logs.service import open_stream

LOG = b"make: *** [all] Error 1\n"


class Endless:
    """A stream without an end, such as `yes`."""

    def read(self, size: int, /) -> bytes:
        return (b"y\n" * size)[:size]


def test_stream_without_an_end_is_rejected_at_the_bound() -> None:
    with pytest.raises(BuildLogUnreadableError, match="more than 1,000,000 bytes"):
        open_stream(Endless(), "stdin", most_bytes=1_000_000)
    with pytest.raises(BuildSourceInvalidError, match="more than 1,000,000 bytes"):
        read_source(Endless(), most_bytes=1_000_000)


def test_log_as_large_as_the_bound_is_read() -> None:
    assert open_stream(io.BytesIO(LOG), "stdin", most_bytes=len(LOG)).total_lines == 1
    assert read_source(io.BytesIO(LOG), most_bytes=len(LOG)).size == len(LOG)
    with pytest.raises(BuildLogUnreadableError):
        open_stream(io.BytesIO(LOG), "stdin", most_bytes=len(LOG) - 1)
