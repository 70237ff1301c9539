"""The health gate and the JSON metric, over real HTTP."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from relab.rollouts.errors import SubjectError, TargetUnavailableError
from relab.rollouts.plans.subject import (
    HealthSubject,
    HttpFlagSubject,
    JsonMetric,
    PrometheusMetric,
    ServiceFlagsSubject,
)
from relab.rollouts.targets.health import HealthGate, lab_config_check
from relab.rollouts.targets.http_flag import HttpFlagTarget
from relab.rollouts.targets.metrics import JsonMetricSource, MetricReading, PrometheusSource
from relab.rollouts.targets.protocol import change_flags
from relab.rollouts.targets.service_flags import ServiceFlagsTarget
from rig.servers import refusing_port
from support.rollouts.small_service import SmallService, small_service


def test_gate_names_the_unhealthy_dependency() -> None:
    with small_service() as service:
        gate = HealthGate(lab_config_check(service.url, {}), {}, timeout_s=5.0)

        healthy = gate.check()
        service.unhealthy.add("qdrant")
        unhealthy = gate.check()

    assert healthy.ok
    assert healthy.dependencies == {"redis": True, "qdrant": True}
    assert not unhealthy.ok
    assert unhealthy.dependencies == {"redis": True, "qdrant": False}
    assert "Unhealthy: qdrant" in unhealthy.reason


def test_gate_is_closed_without_an_answer() -> None:
    with refusing_port() as port:
        found = HealthGate(lab_config_check(f"http://127.0.0.1:{port}", {}), {}, timeout_s=5.0).check()

    assert not found.ok
    assert "does not answer" in found.reason


def test_gate_without_a_check_is_open() -> None:
    assert HealthGate(None, {}, timeout_s=1.0).check().ok


def test_configured_check_compares_a_value() -> None:
    with small_service(limit=10) as service:
        url = f"{service.url}/limit"

        def check(pointer: str, expected: int) -> str:
            subject = HealthSubject(url=url, pointer=pointer, expected=expected)
            return HealthGate(subject, {}, timeout_s=5.0).check().reason

        assert check("/state/max", 10) == ""
        assert "reports 10" in check("/state/max", 11)
        assert "nothing at" in check("/state/min", 1)


def test_check_without_a_pointer_compares_only_the_status() -> None:
    with small_service() as service:
        service.answer = lambda path: (0.0, 503 if "broken" in path else 200)

        def check(path: str) -> str:
            subject = HealthSubject(url=f"{service.url}{path}", pointer=None)
            return HealthGate(subject, {}, timeout_s=5.0).check().reason

        assert check("/ready") == ""
        assert check("/ready?broken").endswith("reports status 503.")


def test_json_metric_reads_numbers_and_leaves_out_the_others() -> None:
    with small_service(limit={"p95": 12.5, "requests": 40, "errors": "none"}) as service:
        subject = JsonMetric(
            kind="json",
            url=f"{service.url}/limit?arm=$arm&from=$start&to=$end",
            pointer="/state/max/p95",
            requests="/state/max/requests",
            errors="/state/max/errors",
        )
        source = JsonMetricSource(subject, {}, timeout_s=5.0)

        found = source.read("B", 1_000_000, 3_000_000)

    assert found == MetricReading(12.5, 40, None)


def test_json_metric_gets_the_time_in_the_units_of_its_source() -> None:
    requested: list[str] = []
    query = "from=$start&from_s=$start_s&from_ms=$start_ms&to=$end&to_s=$end_s&to_ms=$end_ms"
    with small_service(figures=requested.append) as service:
        subject = JsonMetric(kind="json", url=f"{service.url}/figures?{query}", pointer="")

        JsonMetricSource(subject, {}, timeout_s=5.0).read("A", 10_000_400, 20_900_900)

    # The whole numbers lie within the measurement: the start is rounded up, the end down.
    assert requested == ["/figures?from=10.000&from_s=11&from_ms=10001&to=20.901&to_s=20&to_ms=20900"]


def test_json_metric_that_is_nan_is_named() -> None:
    with small_service(figures=lambda _path: {"p95": math.nan}) as service:
        subject = JsonMetric(kind="json", url=f"{service.url}/figures", pointer="/p95")

        with pytest.raises(TargetUnavailableError, match=r"is not JSON\. .*NaN or an infinity at line 1"):
            JsonMetricSource(subject, {}, timeout_s=5.0).read("A", 0, 1)


def test_json_metric_is_read_after_the_delay_of_its_source() -> None:
    subject = JsonMetric(kind="json", url="http://127.0.0.1/metric", pointer="", delay_s=2.5)

    assert JsonMetricSource(subject, {}, timeout_s=5.0).delay_s == 2.5


def test_json_metric_without_an_answer_is_an_error() -> None:
    with refusing_port() as port:
        subject = JsonMetric(kind="json", url=f"http://127.0.0.1:{port}/metric", pointer="")

        with pytest.raises(TargetUnavailableError, match="does not answer"):
            JsonMetricSource(subject, {}, timeout_s=5.0).read("A", 0, 1)


def test_change_waits_until_every_worker_has_applied_it() -> None:
    with small_service(unapplied_reads=3) as service:
        target = ServiceFlagsTarget(service.url, ServiceFlagsSubject(), {}, timeout_s=5.0)

        change_flags(target, {"routing": {"enabled": False}}, within_s=10.0)

        assert target.read().is_applied


def test_headers_of_the_plan_are_sent_with_a_change() -> None:
    with small_service() as service:
        subject = ServiceFlagsSubject(headers={"Authorization": "Bearer ${ROLLOUT_TOKEN}"})
        target = ServiceFlagsTarget(service.url, subject, {"ROLLOUT_TOKEN": "s3cret"}, timeout_s=5.0)

        change_flags(target, {"routing": {"enabled": False}}, within_s=10.0)

        assert service.headers[-1]["Authorization"] == "Bearer s3cret"
        assert "s3cret" not in target.command({"routing": {"enabled": True}})


def test_texts_of_answers_are_not_quoted() -> None:
    with small_service(limit="confidential") as service:
        service.answer = lambda _path: (0.0, 500)
        health = HealthSubject(url=f"{service.url}/limit?token=s3cret", pointer="/state/max", expected="up")
        metric = JsonMetric(kind="json", url=f"{service.url}/work?token=s3cret", pointer="")

        reason = HealthGate(health, {}, timeout_s=5.0).check().reason
        with pytest.raises(TargetUnavailableError) as raised:
            JsonMetricSource(metric, {}, timeout_s=5.0).read("A", 0, 1)

        assert reason == f"{service.url}/limit reports another value with status 200."
        assert raised.value.message == f"{service.url}/work answers 500."


def test_answer_that_never_ends_is_an_error_at_the_time_limit() -> None:
    body = b'{"p95": 1}'

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            for byte in body:
                time.sleep(0.2)
                connection.sendall(bytes([byte]))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        try:
            subject = JsonMetric(kind="json", url=f"http://127.0.0.1:{listener.getsockname()[1]}/", pointer="/p95")
            with pytest.raises(TargetUnavailableError, match=r"no whole answer within 0\.5 s"):
                JsonMetricSource(subject, {}, timeout_s=0.5).read("A", 0, 1)
        finally:
            thread.join()


@pytest.mark.parametrize(
    "data", [{"resultType": "scalar", "result": [1]}, {"resultType": "vector", "result": [{"value": [1]}]}, {}]
)
def test_answer_without_prometheus_fields_is_an_error(data: dict[str, Any]) -> None:
    with small_service(documents={"/api/v1/query": {"data": data}}) as service:
        source = PrometheusSource(PrometheusMetric(kind="prometheus", url=service.url, query="x"), {}, timeout_s=5.0)

        with pytest.raises(TargetUnavailableError, match="does not answer as Prometheus does"):
            source.read("A", 0, 1)


def evaluating(service: SmallService, early_s: float, asked: list[str]) -> PrometheusSource:
    """Return the source of a metric at a server that evaluates queries `early_s` seconds before the requested time."""

    def answer(path: str) -> Any:
        parameters = parse_qs(urlsplit(path).query)
        asked.append(parameters["query"][0])
        at_s = float(parameters["time"][0])
        value = at_s - early_s if asked[-1] == "time()" else 12.5
        return {"data": {"resultType": "vector", "result": [{"metric": {}, "value": [at_s, str(value)]}]}}

    service.documents["/api/v1/query"] = answer
    subject = PrometheusMetric(kind="prometheus", url=service.url, query="x", delay_s=1.5)
    return PrometheusSource(subject, {}, timeout_s=5.0)


def test_server_that_evaluates_queries_too_early_is_rejected() -> None:
    with small_service() as service, pytest.raises(SubjectError, match=r"28\.4 s before the requested") as caught:
        evaluating(service, 28.4, []).read("A", 1_000_000_000, 1_010_000_000)

    assert caught.value.remedy is not None
    assert "to 30 or more" in caught.value.remedy


def test_time_of_evaluation_is_checked_once() -> None:
    asked: list[str] = []
    with small_service() as service:
        source = evaluating(service, 0.9, asked)

        found = [source.read("A", 1_000_000_000, 1_010_000_000).metric for _ in range(2)]

    assert found == [12.5, 12.5]
    assert asked == ["time()", "x", "x"]


def test_server_without_the_function_time_is_read() -> None:
    # Loki answers such requests, but its query language has no such function.
    with small_service(document_status=lambda path: 400 if "query=time" in path else 200) as service:
        found = {"resultType": "vector", "result": [{"metric": {}, "value": [1, "12.5"]}]}
        service.documents["/loki/api/v1/query"] = {"data": found}
        subject = PrometheusMetric(kind="prometheus", url=f"{service.url}/loki", query="x")

        assert PrometheusSource(subject, {}, timeout_s=5.0).read("A", 0, 1_000_000).metric == 12.5


def test_fault_of_an_answer_that_is_not_json_is_shortened() -> None:
    with small_service(figures=lambda _path: {"k" * 100_000: "a\0"}) as service:
        subject = JsonMetric(kind="json", url=f"{service.url}/figures", pointer="/p95")

        with pytest.raises(TargetUnavailableError, match="holds a NUL character") as caught:
            JsonMetricSource(subject, {}, timeout_s=5.0).read("A", 0, 1)

    assert len(caught.value.message) < 500


def test_flag_value_over_the_size_limit_is_rejected() -> None:
    with small_service(limit="x" * 70_000) as service:
        subject = HttpFlagSubject(kind="http", url=f"{service.url}/limit", pointer="/state/max", b=1)

        with pytest.raises(SubjectError, match="at most 65,536"):
            HttpFlagTarget(subject, {}, timeout_s=5.0).read()
