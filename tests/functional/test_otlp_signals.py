"""The SDK's exporters send traces, logs and metrics to one endpoint, over HTTP and gRPC, without an error."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rig.children import read_line
from rig.servers import free_port
from support.lab.forked import forked
from support.lab.installation import BACK_ENDS, Installation, Lab, running_lab
from support.lab.process import run_lab
from support.otlp.all_signals import ERROR, QUESTION
from support.otlp.logs import bodies


@dataclass(frozen=True)
class Served:
    """A running installation that serves OTLP over HTTP and gRPC."""

    lab: Lab
    grpc_port: int

    def endpoint(self, protocol: str) -> str:
        return f"http://127.0.0.1:{self.grpc_port}" if protocol == "grpc" else self.lab.server.url


@pytest.fixture(scope="module", params=BACK_ENDS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    port = free_port()
    with running_lab(request, tmp_path_factory.mktemp("lab"), RELAB_GRPC__PORT=str(port)) as lab:
        yield Served(lab, port)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_one_endpoint_takes_all_signals(served: Served, protocol: str, packed: bool) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": served.endpoint(protocol),
        "OTEL_SERVICE_NAME": "shop",
    }
    if packed:
        environment["OTEL_EXPORTER_OTLP_COMPRESSION"] = "gzip"
    before = counts(served.lab)
    with forked("support.otlp.all_signals", protocol, environment=environment) as program:
        run_id = read_line(program)
        assert program.wait() == 0

    run = served.lab.get(f"/agent-runs/{run_id}")
    records = served.lab.get(f"/agent-runs/{run_id}/logs")["items"]
    items = {item["kind"]: item["data"] for item in served.lab.get(f"/agent-runs/{run_id}/timeline")["items"]}
    after = counts(served.lab)
    assert run["agent_name"] == "shop-agent"
    assert bodies(records)[0] == "the agent starts"
    assert [record.get("eventName") for record in records] == [None, "gen_ai.user.message", "gen_ai.choice", None]
    assert QUESTION in str(records[1]["body"])
    assert items["tool_call"]["error_class"] == "TimeoutError"
    assert items["tool_call"]["error_message"] == ERROR
    assert after["log_records", "accepted"] - before["log_records", "accepted"] == 4
    assert after["log_records", "ignored"] - before["log_records", "ignored"] == 1
    assert after["metric_data_points", "ignored"] > before["metric_data_points", "ignored"]


def counts(lab: Lab) -> dict[tuple[str, str], float]:
    """Return the numbers of received items by signal and outcome."""
    found = {
        (name, outcome): 0.0 for name in ("log_records", "metric_data_points") for outcome in ("accepted", "ignored")
    }
    for line in lab.http.get("/metrics").text.splitlines():
        for name, outcome in found:
            if line.startswith(f'relab_{name}_total{{outcome="{outcome}"}}'):
                found[name, outcome] = float(line.rsplit(" ", 1)[1])
    return found


def test_server_with_grpc_stops_cleanly(tmp_path: Path) -> None:
    installation = Installation.on_sqlite(tmp_path)
    port = free_port()
    with installation.serve("--grpc-port", str(port)) as server, Lab(installation, server):
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        with forked("support.otlp.all_signals", "grpc", environment=environment) as program:
            read_line(program)
            assert program.wait() == 0
        assert server.stop(signal.SIGTERM) == 0
        assert "listening_grpc" in server.log()
        assert "Traceback" not in server.log()


def test_grpc_port_in_use_is_reported_at_startup(served: Served, tmp_path: Path) -> None:
    done = run_lab("serve", "--port", "0", "--grpc-port", str(served.grpc_port), home=tmp_path)

    assert done.returncode == 69
    assert f"port {served.grpc_port}" in done.stderr
    assert "RELAB_GRPC__PORT" in done.stderr


def test_a_public_address_needs_tokens(tmp_path: Path) -> None:
    settings = {"RELAB_GRPC__HOST": "0.0.0.0", "RELAB_GRPC__PORT": "0"}
    done = run_lab("serve", "--port", "0", home=tmp_path, settings=settings)

    assert done.returncode == 69
    assert "0.0.0.0 is public" in done.stderr
