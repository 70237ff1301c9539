"""The probe client: bounded time and size, each request once, and a reason for each missing response."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from relab.incidents.probes.catalogue import PROBES
from relab.incidents.probes.client import ProbeClient, UnknownProbeError
from relab.incidents.probes.models import BUDGET_S, Probe, ProbeRequest, ProbeResult, ProbeServer
from relab.incidents.probes.requests import ProbeTransport
from relab.incidents.transport import bodies
from support.incidents.probe_answers import WELL

Answer = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


async def well(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json=WELL[request.url.raw_path.decode()])


def take(
    names: list[str], answer: Answer = well, *, within_s: float = 20.0, token: str | None = "t0ken"
) -> ProbeResult:
    async def go() -> ProbeResult:
        transports = {base: httpx.MockTransport(answer) for base in ProbeServer}
        asker = ProbeTransport("http://target", "http://actions", token=token, transports=transports)
        return await ProbeClient(asker).run(names, within_s=within_s)

    return asyncio.run(go())


def test_probes_share_one_request() -> None:
    asked: Counter[str] = Counter()

    async def count(request: httpx.Request) -> httpx.Response:
        asked[request.url.path] += 1
        return await well(request)

    found = take(["database.sessions", "database.waits", "database.indexes", "pool", "pool"], count)
    assert asked == {"/api/v1/diagnostics/database": 1, "/api/v1/pool/status": 1}
    assert found.facts["database.reachable"] is True
    assert found.facts["pool.used"] == 2.0
    assert found.absent == {}


@pytest.mark.parametrize("ahead_s", [-7_200, 0, 7_200])
def test_age_of_log_lines_is_measured_by_the_clock_of_the_target(ahead_s: int) -> None:
    told = datetime.now(UTC) + timedelta(seconds=ahead_s)
    line = {"time": told.isoformat(), "level": "error", "event": "db_error", "message": "pool timeout", "fields": {}}

    async def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"lines": [line]}, headers={"Date": format_datetime(told, usegmt=True)})

    found = take(["logs"], answer)
    assert found.facts["logs.lines"] == 1.0
    assert found.facts["logs.errors"] == 1.0


def test_each_fact_is_evidence_with_its_pointer() -> None:
    found = take(["pool"])
    assert {item.fact for item in found.evidence} == set(found.facts)
    assert len({item.evidence_id for item in found.evidence}) == len(found.evidence)
    cited = next(item for item in found.evidence if item.fact == "pool.used")
    assert cited.look == "pool"
    assert cited.request == "target GET /api/v1/pool/status"
    assert cited.pointer == "/used"
    assert cited.verbatim == "2"


def test_the_token_is_sent_to_the_action_server_alone() -> None:
    seen: dict[str, str | None] = {}

    async def note(request: httpx.Request) -> httpx.Response:
        seen[request.url.host] = request.headers.get("Authorization")
        return await well(request)

    take(["pool", "settings.history"], note)
    assert seen == {"target": None, "actions": "Bearer t0ken"}


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (httpx.Response(503, json=WELL["/api/v1/pool/status"]), "answered 503"),
        (httpx.Response(302, headers={"Location": "http://elsewhere/"}), "answered 302"),
        # A compressed body can have any size, and its length is known only after decompression.
        (
            httpx.Response(
                200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(gzip.compress(b" " * 10**7))
            ),
            "encoded as 'gzip'",
        ),
        (httpx.Response(200, content=b"{"), "not valid JSON"),
        (httpx.Response(200, content=b'{"used": NaN}'), "not valid JSON"),
        (httpx.Response(200, content=b"[" * 100_000), "not valid JSON"),
        (httpx.Response(200, content=b'{"used": 1e999}'), "range"),
        (httpx.Response(200, content=b"\xff\xfe"), "not valid JSON"),
    ],
)  # fmt: skip
def test_invalid_response_is_reported_as_absent(response: httpx.Response, reason: str) -> None:
    async def odd(_: httpx.Request) -> httpx.Response:
        return response

    found = take(["pool"], odd)
    assert reason in found.absent["target GET /api/v1/pool/status"]
    assert found.facts == {}


def test_health_report_with_an_error_status_is_read() -> None:
    report = {"health_status": "degraded", "dependencies": {"cache": {"ok": False, "error": "connection refused"}}}

    async def unavailable(_: httpx.Request) -> httpx.Response:
        return httpx.Response(503, json=report)

    found = take(["service"], unavailable)

    assert found.facts["health"] == "degraded"
    assert found.facts["dependency.cache"] == "failing"
    assert found.absent == {"target GET /api/v1/metrics?window_s=10": "answered 503"}


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(503, json={"detail": "no upstream"}),
        httpx.Response(503, json={"health_status": "healthy"}),
        httpx.Response(503, json={"health_status": 1}),
        httpx.Response(503, json=["degraded"]),
        httpx.Response(502, text="<html>Bad Gateway</html>"),
        httpx.Response(401, json={"health_status": "degraded"}),
    ],
)
def test_error_without_a_report_of_bad_health_is_absent(response: httpx.Response) -> None:
    async def odd(_: httpx.Request) -> httpx.Response:
        return response

    found = take(["service"], odd)

    assert found.absent["target GET /api/v1/health"] == f"answered {response.status_code}"
    assert found.facts["asked.health"] == "unreadable"


def test_endless_response_is_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BYTES", 10_000)
    sent = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self):  # type: ignore[no-untyped-def]
            nonlocal sent
            while True:
                sent += 1_000
                yield b" " * 1_000

    async def endless(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Endless())

    assert "more than 10,000 bytes" in take(["pool"], endless).absent["target GET /api/v1/pool/status"]
    assert sent <= 40_000


def test_rejected_probe_is_absent_and_others_succeed() -> None:
    async def half(request: httpx.Request) -> httpx.Response:
        if request.url.host == "actions":
            raise httpx.ConnectError("nobody listens")
        return await well(request)

    found = take(["pool", "settings.history", "jobs"], half)
    assert found.facts["pool"] == "healthy"
    assert "nobody listens" in found.absent["actions GET /settings/history"]
    assert not any(name.startswith(("settings.", "jobs.")) for name in found.facts)


def test_silent_connection_is_replaced_by_a_second_attempt() -> None:
    asked = 0

    async def first_is_silent(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.Event().wait()
        return await well(request)

    found = take(["pool"], first_is_silent)
    assert asked == 2
    assert found.facts["pool"] == "healthy"
    assert found.absent == {}


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (405, 1), (410, 1), (501, 1), (403, 3), (500, 3), (503, 3)])
def test_path_that_the_server_does_not_offer_is_requested_once(status: int, attempts: int) -> None:
    asked = 0

    async def refuse(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return httpx.Response(status)

    assert take(["pool"], refuse).absent == {"target GET /api/v1/pool/status": f"answered {status}"}
    assert asked == attempts


def test_concurrent_probes_end_within_the_time_limit() -> None:
    async def silent_target(request: httpx.Request) -> httpx.Response:
        if request.url.host == "target":
            await asyncio.Event().wait()
        return await well(request)

    found = take(["pool", "settings.history", "service"], silent_target, within_s=1.0)
    assert found.facts["settings.version"] == 1.0
    assert found.facts["asked.health"] == "timed_out"
    assert "within 1 s" in found.absent["target GET /api/v1/pool/status"]


@pytest.mark.parametrize("probe", PROBES.values(), ids=list(PROBES))
def test_time_limit_of_each_request_is_within_that_of_all_probes_together(probe: Probe) -> None:
    assert max(request.within_s for request in probe.requests) <= BUDGET_S


def test_cancelled_call_leaves_no_request_in_progress() -> None:
    async def go() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def silent(_: httpx.Request) -> httpx.Response:
            begun.set()
            try:
                return await asyncio.Future()
            finally:
                ended.set()

        asker = ProbeTransport(
            "http://target", "http://actions", transports={base: httpx.MockTransport(silent) for base in ProbeServer}
        )
        call = asyncio.create_task(asker.together([ProbeRequest(ProbeServer.TARGET, "/")], 20.0))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert ended.is_set()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(go())


def test_unknown_probe_is_rejected_before_any_request() -> None:
    async def never(_: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing is asked")

    with pytest.raises(UnknownProbeError) as caught:
        take(["pool", "sideways"], never)
    assert "'sideways'" in caught.value.message
    assert "service" in str(caught.value)
    assert take([], never) == ProbeResult()


def test_sample_responses_of_the_test_are_json() -> None:
    assert json.loads(json.dumps(WELL)) == WELL
