"""The limits on the bodies of ingest requests in progress."""

from __future__ import annotations

import asyncio

import pytest

from relab.core.errors import OverloadedError
from relab.http.body import IngestGate


def test_single_body_of_undeclared_length_may_exceed_the_limit() -> None:
    async def go() -> tuple[int, int]:
        gate = IngestGate(max_requests=2, max_bytes=100)
        async with gate.reserve() as alone:
            alone.add(60)
            alone.add(60)
            during = gate.bytes
        return during, gate.bytes

    assert asyncio.run(go()) == (120, 0)


def test_second_body_may_not_exceed_the_limit() -> None:
    async def go() -> int:
        gate = IngestGate(max_requests=2, max_bytes=100)
        async with gate.reserve(60) as first, gate.reserve() as second:
            second.add(40)
            for reservation in (first, second):
                with pytest.raises(OverloadedError):
                    reservation.add(1)
            return gate.bytes

    assert asyncio.run(go()) == 100
