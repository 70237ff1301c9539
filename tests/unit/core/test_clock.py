"""Times: integer microseconds in memory, RFC 3339 text in JSON."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from relab.core.clock import EARLIEST_US, LATEST_US, ReportedTime, SystemClock, Timestamp, format_time, parse_time

MOMENTS = st.integers(EARLIEST_US, LATEST_US - 1)


class Stored(BaseModel):
    """A model with a time that this system recorded."""

    at: Timestamp


class Reported(BaseModel):
    """A model with a time that an external source reported."""

    at: ReportedTime


@given(MOMENTS)
def test_every_time_survives_being_written_and_read(us: int) -> None:
    assert parse_time(format_time(us)) == us


@given(MOMENTS, MOMENTS)
def test_two_times_are_written_alike_only_if_they_are_equal(one: int, other: int) -> None:
    assert (format_time(one) == format_time(other)) == (one == other)


@given(MOMENTS, st.integers(-14 * 60, 14 * 60))
def test_an_offset_changes_the_text_and_not_the_time(us: int, offset_minutes: int) -> None:
    zone = timezone(timedelta(minutes=offset_minutes))
    moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).astimezone(zone)
    assert parse_time(moment.isoformat()) == us


@given(MOMENTS)
def test_a_time_without_an_offset_is_utc(us: int) -> None:
    assert parse_time(format_time(us).removesuffix("Z")) == us


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-01-15T10:30:00Z", 1_705_314_600_000_000),
        ("2024-01-15T10:30:00z", 1_705_314_600_000_000),
        ("2024-01-15t10:30:00Z", 1_705_314_600_000_000),
        ("2024-01-15 10:30:00+00:00", 1_705_314_600_000_000),
        ("2024-01-15T12:30:00+02:00", 1_705_314_600_000_000),
        ("2024-01-15T10:30:00.5Z", 1_705_314_600_500_000),
        ("2024-01-15T10:30:00.123456999Z", 1_705_314_600_123_456),
        ("2199-12-31T23:59:59.999999Z", LATEST_US - 1),
    ],
)
def test_the_spellings_of_rfc_3339_are_read(text: str, us: int) -> None:
    assert parse_time(text) == us


@pytest.mark.parametrize(
    "text",
    ["", "z", "yesterday", "1705314600", "2024-13-01T00:00:00Z", "2024-01-15T25:00:00Z", " 2024-01-15T10:30:00Z",
     "\uff12\uff10\uff12\uff14-01-15T10:30:00Z", "\ud800", "x" * 10_000],
)  # fmt: skip
def test_invalid_time_is_rejected_with_an_example_and_a_short_quotation(text: str) -> None:
    with pytest.raises(ValueError, match="2024-01-15T10:30:00Z") as refusal:
        parse_time(text)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    "text",
    ["1969-12-31T23:59:59.999999Z", "2200-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"],
)
def test_a_time_out_of_range_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(ValueError, match="1970-01-01T00:00:00Z and 2199-12-31T23:59:59Z"):
        parse_time(text)


def test_a_fraction_is_written_only_if_there_is_one() -> None:
    assert format_time(1_000_000) == "1970-01-01T00:00:01Z"
    assert format_time(1_000_001) == "1970-01-01T00:00:01.000001Z"


def test_a_field_is_an_integer_inside_and_text_in_json() -> None:
    stored = Stored.model_validate_json('{"at": "1970-01-01T00:00:01Z"}')
    assert stored.at == 1_000_000
    assert Stored(at=1_000_000).model_dump_json() == '{"at":"1970-01-01T00:00:01Z"}'


@pytest.mark.parametrize("value", [1_705_314_600, 1.5, None, True, {}])
def test_a_reported_time_must_be_text_because_a_number_hides_its_unit(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Reported.model_validate({"at": value})
    (problem,) = caught.value.errors()
    assert problem["loc"] == ("at",)
    assert "RFC 3339" in problem["msg"]


def test_the_systems_clock_counts_microseconds() -> None:
    before = time.time_ns() // 1_000
    now = SystemClock().now_us()
    assert before <= now <= time.time_ns() // 1_000
