"""Time: int microseconds since 1970 (UTC) in Python and in the database, RFC 3339 text with `Z` in JSON."""

from __future__ import annotations

import functools
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Protocol

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST_US = 0
LATEST_US = int((datetime(2200, 1, 1, tzinfo=UTC) - EPOCH).total_seconds()) * 1_000_000
"""The end of the accepted range. Times outside 1970 to 2199 come from a wrong unit (seconds for milliseconds) or
from a fuzzer."""

MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """The source of the current time; tests use a clock that they can set."""

    def now_us(self) -> int:
        """Return the current time in microseconds since 1970, UTC."""
        ...


class SystemClock:
    """The wall clock of the machine."""

    def now_us(self) -> int:
        """Return the current time in microseconds since 1970, UTC."""
        return time.time_ns() // 1_000


def uptime_us() -> int:
    """Return the time since the machine started, in microseconds; the value never decreases.

    On Linux, the value includes the time during which the machine was suspended.
    """
    has_boottime = hasattr(time, "CLOCK_BOOTTIME")
    return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) if has_boottime else time.monotonic_ns()) // 1_000


def parse_time(text: str) -> int:
    """Parse an RFC 3339 / ISO 8601 time into microseconds since 1970, UTC.

    A time without an offset is read as UTC. Digits beyond microseconds are truncated.

    Raises:
        ValueError: the text is not a time, or the time is not between 1970-01-01 and 2199-12-31.
    """
    try:
        # RFC 3339 allows a lower-case z, but Python's parser does not.
        moment = datetime.fromisoformat(text[:-1] + "Z" if text.endswith("z") else text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        us = (moment - EPOCH) // MICROSECOND
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text[:40]!r} is not an RFC 3339 time such as 2024-01-15T10:30:00Z") from error
    return check_time(us)


def check_time(us: int) -> int:
    """Return `us`, a time in microseconds since 1970, if it is in the accepted range.

    Raises:
        ValueError: the time is not between 1970-01-01 and 2199-12-31.
    """
    if not EARLIEST_US <= us < LATEST_US:
        raise ValueError("the time must lie between 1970-01-01T00:00:00Z and 2199-12-31T23:59:59Z")
    return us


def format_time(us: int) -> str:
    """Format a time in microseconds since 1970 as RFC 3339 text in UTC, with microseconds unless they are 0."""
    seconds, fraction = divmod(us, 1_000_000)
    return f"{_format_second(seconds)}.{fraction:06d}Z" if fraction else f"{_format_second(seconds)}Z"


@functools.lru_cache(maxsize=4_096)
def _format_second(seconds: int) -> str:
    """Return a time in whole seconds since 1970 as ISO 8601 text without offset; the result is cached."""
    # Times close together are often formatted one after the other, and the calendar computation is slow.
    return (EPOCH + timedelta(seconds=seconds)).isoformat().removesuffix("+00:00")


def _read(value: object) -> object:
    return parse_time(value) if isinstance(value, str) else value


def _read_text(value: object) -> object:
    if isinstance(value, str):
        return parse_time(value)
    raise ValueError("a time is an RFC 3339 string such as 2024-01-15T10:30:00Z")


TIME_PATTERN = (
    # A year in the accepted range and a valid day of the month; 29 February only in leap years.
    r"^(?:(?:19[7-9][0-9]|2[01][0-9]{2})-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    r"|(?:19(?:7[26]|8[048]|9[26])|20(?:[02468][048]|[13579][26])|21(?:0[48]|[2468][048]|[13579][26]))-02-29)"
    r"[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
)
"""The RFC 3339 times that relab accepts; an offset may still move a time of the first or last day out of range."""

_AS_TEXT = PlainSerializer(format_time, return_type=str, when_used="json")
_SCHEMA = WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2024-01-15T10:30:00Z"]})
_POSTED_SCHEMA = WithJsonSchema({"type": "string", "pattern": TIME_PATTERN, "examples": ["2024-01-15T10:30:00Z"]})

Timestamp = Annotated[int, BeforeValidator(_read), _AS_TEXT, _SCHEMA]
"""The type of a model's time field: int microseconds since 1970 in Python, and an RFC 3339 string in JSON."""

ReportedTime = Annotated[int, BeforeValidator(_read_text), _AS_TEXT, _POSTED_SCHEMA]
"""A `Timestamp` sent by a client: it must be text, because a number does not show its unit."""
