"""Metrics over OTLP: accepted and counted, so that no exporter fails, and never stored."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from support.otlp.logs import METRICS_PATH, assert_accepted, encoded, metrics_request, post_to
from support.otlp.traces import ENCODINGS, Encoding, assert_refused, field


def counted(api: TestClient) -> dict[str, float]:
    """Return the numbers of data points by outcome."""
    name = "relab_metric_data_points_total"
    lines = [line for line in api.get("/metrics").text.splitlines() if line.startswith(name)]
    return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in lines}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_data_points_of_every_kind_are_counted_with_a_warning(
    api: TestClient, encoding: Encoding, packed: bool
) -> None:
    before = counted(api).get("ignored", 0)
    body = encoded(metrics_request(1, 2, 3, 4, 5, 0), encoding)
    rejected, message = assert_accepted(post_to(METRICS_PATH, api, body, encoding, packed=packed))
    assert rejected == 0
    assert message == "relab stores no metrics: 15 data points are counted and not stored"
    assert counted(api)["ignored"] - before == 15


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_request_without_data_points_has_no_warning(api: TestClient, encoding: Encoding) -> None:
    for request in (metrics_request(), metrics_request(0)):
        answer = post_to(METRICS_PATH, api, encoded(request, encoding), encoding)
        assert assert_accepted(answer) == (0, "")


def test_a_metric_that_cannot_be_read_is_rejected_alone(api: TestClient) -> None:
    bad = field(1, field(2, field(2, field(5, b"\xff\xff"))))
    rejected, message = assert_accepted(post_to(METRICS_PATH, api, bad + encoded(metrics_request(2), "protobuf")))
    assert rejected == 1
    assert "a metric cannot be decoded" in message
    assert "2 data points" in message


def test_a_request_that_cannot_be_read_is_rejected_as_a_whole(api: TestClient) -> None:
    assert_refused(post_to(METRICS_PATH, api, b"\xff\xfe"), 400, "protobuf")
    assert_refused(post_to(METRICS_PATH, api, b"[]", "json"), 400, "json")
    assert_refused(post_to(METRICS_PATH, api, b"{}", "json", **{"content-encoding": "br"}), 415, "json")
    assert_refused(api.post(METRICS_PATH, content=b"", headers={"content-type": "text/plain"}), 415, "json")
