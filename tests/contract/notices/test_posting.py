"""Requests to receivers: each ends, even if the receiver misbehaves, and its result is success, retry or failure."""

from __future__ import annotations

import asyncio
import sys
import threading

import httpx
import pytest
from pydantic import SecretStr

from relab.core.errors import ConfigurationError
from relab.incidents.notices.channels.slack import message_of
from relab.incidents.notices.http_delivery import DeliveryReply, DeliveryResult, NoticePoster
from relab.incidents.notices.receivers import Receiver
from rig.servers import refusing_port
from support.clocks import MovableClock
from support.notices.receivers import Answer, loopback_receiver

CLOCK = MovableClock(1_800_000_000_000_000)


def post(url: str, *, within_s: float = 20.0) -> DeliveryReply:
    async def run() -> DeliveryReply:
        poster = NoticePoster(CLOCK, within_s=within_s)
        return await poster.post(
            Receiver("slack", "SETTING", SecretStr(url), message_of), {"text": "caf\u00e9"}, key="i1:1"
        )

    return asyncio.run(run())


def reply_to(answer: Answer, *, within_s: float = 20.0) -> DeliveryReply:
    with loopback_receiver(answer) as receiver:
        reply = post(receiver.url, within_s=within_s)
    assert receiver.received[0].document == {"text": "caf\u00e9"}
    return reply


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (200, DeliveryResult.TAKEN),
        (202, DeliveryResult.TAKEN),
        (301, DeliveryResult.NEVER),
        (400, DeliveryResult.NEVER),
        (403, DeliveryResult.NEVER),
        (410, DeliveryResult.NEVER),
        (408, DeliveryResult.LATER),
        (425, DeliveryResult.LATER),
        (429, DeliveryResult.LATER),
        (502, DeliveryResult.LATER),
    ],
)
def test_status_code_means_success_retry_or_failure(status: int, fate: DeliveryResult) -> None:
    assert reply_to(Answer(status)).result is fate


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0", 0.0), ("-3", 0.0), ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0), ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
     ("soon", None), ("nan", None), ("inf", None), ("", None), ("Fri, 15 Jan 20270 08:00:30 GMT", None),
     ("Fri, 15 Jan 99999999999999999999 08:00:30 GMT", None), ("Fri, 15 Jan 2027 08:00:30 +99999999999999999999", None)],
)  # fmt: skip
def test_retry_after_of_a_receiver_is_read(header: str, seconds: float | None) -> None:
    assert reply_to(Answer(429, {"Retry-After": header})).retry_after_s == seconds


def test_cookies_of_a_receiver_are_not_sent_back() -> None:
    answer = Answer(headers={"Set-Cookie": "worker=3; Path=/"})

    async def twice(url: str) -> None:
        poster = NoticePoster(CLOCK, within_s=20.0)
        for key in ("i1:1", "i1:2"):
            await poster.post(Receiver("slack", "SETTING", SecretStr(url), message_of), {}, key=key)

    with loopback_receiver(answer) as receiver:
        asyncio.run(twice(receiver.url))
    assert [each.cookie for each in receiver.received] == [None, None]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("ALL_PROXY", "socks5h://ann:s3cr3t@127.0.0.1:9", "'socksio' package is not installed"),
        ("HTTPS_PROXY", "gopher://ann:s3cr3t@127.0.0.1:9", "ValueError"),
        ("HTTP_PROXY", "http://ann:s3cr3t/@127.0.0.1:9", "InvalidURL"),
        ("SSL_CERT_FILE", "/nowhere/s3cr3t.pem", "FileNotFoundError"),
    ],
)
def test_unusable_proxy_or_certificate_is_reported_at_once_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=why) as caught:
        NoticePoster(CLOCK, within_s=20.0)
    assert "s3cr3t" not in str(caught.value)
    assert name in str(caught.value.remedy)


def test_reason_of_a_rejection_is_cut_and_on_one_line() -> None:
    reply = reply_to(Answer(400, body=b"bad\r\n\x1b[2J" + b"x" * 5_000_000))

    assert reply.reason.startswith("answered 400: bad [2Jxxx")
    assert len(reply.reason) < 250


def test_receiver_that_does_not_answer_is_retried_later() -> None:
    held = threading.Event()
    assert reply_to(Answer(until=held), within_s=0.2) == DeliveryReply(DeliveryResult.LATER, "no answer within 0.2 s")
    with refusing_port() as port:
        assert post(f"http://127.0.0.1:{port}/T0/B0/secret-secret").result is DeliveryResult.LATER


def test_unreachable_receiver_is_reported_without_the_secret() -> None:
    reply = post("http://127.0.0.1:9/services/secret-secret")

    assert reply.result is DeliveryResult.LATER
    assert "secret" not in reply.reason


def test_secret_address_is_masked_before_a_long_error_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"https://127.0.0.1/services/{'s3cret' * 20}"

    async def fail(*_: object, **__: object) -> None:
        raise httpx.ConnectError(f"{'no route ' * 15}to {url}")

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", fail)

    assert "s3cret" not in post(url).reason
