"""A whole testbed with its chaos and action server: the seed's commands, tokens, blindness, and resets."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from relab.testbed import service
from relab.testbed.episodes import SECRET_HEADER
from relab.testbed.models import ResourceLimits
from relab.testbed.supervisor.plan import OPEN_ROWS, STANDARD_ROWS, ProgramRow
from rig.waiting import wait_until
from support.testbed.beds import STAND_IN, Bed, bed_home, processes_of

pytestmark = pytest.mark.full
TELLING = ("chaos", "inject", "fault", "break")


@pytest.fixture(scope="module")
def made() -> Iterator[Bed]:
    with bed_home() as home:
        yield Bed.start(home, "w", rows=STANDARD_ROWS)


@pytest.fixture
def bed(made: Bed) -> Bed:
    made.ask("POST", "/reset")
    return made


def ask(
    bed: Bed, who: str, method: str, path: str, token: str | None = None, secret: str | None = None, **more: Any
) -> httpx.Response:
    """Send a request to one of the servers of a testbed, as any client can."""
    addresses = service.status(bed.layout.home, bed.layout.name, hidden=True).state.addresses
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {} if secret is None else {SECRET_HEADER: secret}
    found: str = getattr(addresses, who)
    return httpx.request(method, found + path, headers=headers, timeout=60, trust_env=False, verify=False, **more)


def token_of(bed: Bed, *scopes: str) -> str:
    return service.make_token(bed.layout.home, bed.layout.name, "test", scopes or ("read", "act"), replace=True)


def test_seed_commands_break_repair_and_verify(bed: Bed) -> None:
    token = token_of(bed)
    made = ask(bed, "chaos", "POST", "/api/v1/break/db_pool")
    assert made.status_code == 201
    wait_until(
        lambda: ask(bed, "target", "GET", "/api/v1/pool/status").json()["pool_utilization"] == "exhausted",
        what="an exhausted pool",
    )
    assert ask(bed, "target", "GET", "/api/v1/health").json()["health_status"] in {"degraded", "critical"}
    assert {"error_rate", "avg_response_time_ms"} <= ask(bed, "target", "GET", "/api/v1/metrics").json().keys()

    path = "/action/remediate-db-pool-exhaustion?escalate_to_db_restart=true"
    assert ask(bed, "actions", "POST", path).status_code == 401
    done = ask(bed, "actions", "POST", path, token)
    assert done.status_code == 200
    assert done.json()["record"]["status"] == "succeeded"
    assert ask(bed, "actions", "GET", "/action/verify-target-health", token).json()["is_healthy"] is True

    stopped = ask(bed, "chaos", "POST", f"/api/v1/break/db_pool/{made.json()['id']}/stop")
    assert stopped.status_code == 200
    assert stopped.json()["phase"] == "stopped"


@pytest.mark.full
def test_seed_commands_work_unchanged_with_open_actions() -> None:
    with bed_home() as home:
        bed = Bed.start(home, "o", rows=OPEN_ROWS)
        assert ask(bed, "chaos", "POST", "/api/v1/break/db_pool").status_code == 201
        wait_until(
            lambda: ask(bed, "target", "GET", "/api/v1/pool/status").json()["pool_utilization"] == "exhausted",
            what="an exhausted pool",
        )
        mended = ask(bed, "actions", "POST", "/action/remediate-db-pool-exhaustion")
        assert mended.status_code == 200
        assert mended.json()["ok"] is True
        assert "is_healthy" in ask(bed, "actions", "GET", "/action/verify-target-health").json()


def test_a_token_allows_its_scopes_and_no_more(bed: Bed) -> None:
    reader = token_of(bed, "read")
    assert ask(bed, "actions", "GET", "/actions", reader).status_code == 200
    assert ask(bed, "actions", "POST", "/action/restart-cache", reader).status_code == 403
    # A new token with the same label revokes the older one.
    restarter = token_of(bed, "read", "act:restart")
    assert ask(bed, "actions", "GET", "/actions", reader).status_code == 401
    assert ask(bed, "actions", "POST", "/action/flush-cache", restarter).status_code == 403
    assert ask(bed, "actions", "POST", "/action/restart-cache", restarter).status_code == 200


def test_public_endpoints_do_not_reveal_faults(bed: Bed) -> None:
    ask(bed, "chaos", "POST", "/api/v1/break/db_lock", json={"table": "stock"})
    paths = [
        *("health", "metrics", "pool/status", "logs?limit=1000"),
        *(f"diagnostics/{name}" for name in ("database", "cache", "host", "processes", "settings", "search")),
    ]
    texts = {path: ask(bed, "target", "GET", f"/api/v1/{path}").text for path in paths}
    texts |= {"/metrics": ask(bed, "target", "GET", "/metrics").text}
    token = token_of(bed)
    texts |= {path: ask(bed, "actions", "GET", path, token).text for path in ("/actions", "/records", "/health")}
    texts |= {"state.json": bed.layout.state.read_text(), "status": json.dumps(bed.ask("GET", "/status"))}

    port = str(service.status(bed.layout.home, bed.layout.name, hidden=True).state.addresses.chaos).rpartition(":")[2]
    told = {(place, word) for place, text in texts.items() for word in (*TELLING, f":{port}") if word in text.lower()}
    # The word "default" contains "fault".
    assert {(place, word) for place, word in told if word != "fault"} == set()
    assert all("fault" not in texts[place].lower().replace("default", "") for place, _ in told)


@pytest.mark.full
def test_reset_clears_the_state_and_keeps_audit_file_and_tokens(bed: Bed) -> None:
    token = token_of(bed, "admin")
    keepers = ("chaos", "actions")
    before = {item.name: item.pid for item in service.status(bed.layout.home, "w", hidden=True).components}
    ask(bed, "chaos", "POST", "/api/v1/break/cache_latency")
    record = ask(bed, "actions", "POST", "/action/flush-cache", token).json()["record"]["record_id"]
    assert ask(bed, "actions", "PUT", "/kill-switch", token, json={"stopped": True}).status_code == 200

    bed.ask("POST", "/reset")

    after = {item.name: item.pid for item in service.status(bed.layout.home, "w", hidden=True).components}
    assert {name: after[name] == before[name] for name in ("worker-1", "postgres", "links", *keepers)} == {
        "worker-1": False, "postgres": False, "links": False, "chaos": True, "actions": True,
    }  # fmt: skip
    assert ask(bed, "chaos", "GET", "/api/v1/break").json() == {"injections": []}
    assert ask(bed, "actions", "GET", "/records", token).json() == {"records": []}
    assert ask(bed, "actions", "GET", "/kill-switch", token).json() == {"stopped": False}
    assert record in bed.layout.audit.read_text()


@pytest.mark.full
def test_only_the_supervisor_begins_an_episode(bed: Bed) -> None:
    token = token_of(bed, "admin")
    ask(bed, "chaos", "POST", "/api/v1/break/cache_latency")
    for who in ("chaos", "actions"):
        for secret in (None, "x", ""):
            assert ask(bed, who, "POST", "/forget", token, secret).status_code == 403
    assert len(ask(bed, "chaos", "GET", "/api/v1/break").json()["injections"]) == 1


@pytest.mark.full
def test_component_that_misses_the_reset_is_restarted(bed: Bed) -> None:
    before = bed.pid("actions")
    os.kill(before, signal.SIGSTOP)
    bed.ask("POST", "/reset")
    assert bed.wait_running("actions", other_than=before).pid != before


@pytest.mark.full
def test_reset_lifts_the_limits_of_all_components(bed: Bed) -> None:
    def open_files(name: str) -> int:
        return int(psutil.Process(bed.pid(name)).rlimit(psutil.RLIMIT_NOFILE)[0])

    before = {name: open_files(name) for name in ("actions", "worker-1")}
    for name in before:
        bed.ask("PUT", f"/components/{name}/limits", {"rlimits": {"nofile": 200}})
    assert {open_files(name) for name in before} == {200}

    bed.ask("POST", "/reset")

    for name, count in before.items():
        assert bed.component(name).limits == ResourceLimits(), name
        assert open_files(name) == count, name


@pytest.mark.full
def test_component_that_misses_the_first_episode_is_restarted_before_the_testbed_is_ready() -> None:
    # This server answers GET, and rejects every POST with 501.
    deaf = ProgramRow(
        name="deaf",
        group="deaf",
        command=["{python}", "-m", "http.server", "{port}", "--bind", "127.0.0.1"],
        port="actions",
        ready_path="/",
        episode_end_path="/forget",
    )
    with bed_home() as home:
        component = Bed.start(home, "d", rows=(STAND_IN, deaf)).component("deaf")
    assert component.state == "running"
    assert component.starts == 2


@pytest.mark.full
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_data_volume_is_limited_emptied_by_a_reset_and_unmounted_after_a_kill() -> None:
    with bed_home() as home:
        bed = Bed.start(home, "v")
        data = bed.layout.data
        assert data.is_mount()
        with pytest.raises(OSError, match=rf"Errno {errno.ENOSPC}\b"):
            (data / "big").write_bytes(bytes(100 << 20))
        bed.ask("POST", "/reset")
        assert data.is_mount() is True
        assert list(data.iterdir()) == []

        guard = processes_of(bed.layout)[0]
        os.kill(bed.status().state.pid, signal.SIGKILL)
        guard.wait(60)
        assert not data.is_mount()
