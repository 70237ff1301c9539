"""An installation behind a local reverse proxy: forwarded requests are not local, and ended tokens keep it closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rig.waiting import wait_until
from support.api.reverse_proxies import Rewrite, adding, appending, reverse_proxy, silent
from support.lab.process import LabProcess, run_lab


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    with LabProcess.serve(tmp_path_factory.mktemp("open"), "--workers", "0") as server:
        yield server


def get(base: str, headers: dict[str, str] | None = None, *, source: str | None = None) -> httpx.Response:
    transport = httpx.HTTPTransport(local_address=source, verify=False)
    with httpx.Client(transport=transport, trust_env=False, timeout=30.0) as client:
        return client.get(f"{base}/agent-runs", headers=headers)


def refused(response: httpx.Response) -> str:
    assert response.status_code == 403, response.text
    problem = response.json()
    assert problem["type"] == "urn:relab:problem:foreign_origin"
    detail: str = problem["detail"]
    assert "lab auth create-token" in detail
    return detail


@pytest.mark.parametrize(
    ("rewrite", "sign"),
    [
        (appending, "X-Forwarded-For"),
        (adding("X-Forwarded-Proto", "https"), "X-Forwarded-Proto"),
        (adding("Forwarded", "for=203.0.113.7;proto=https"), "Forwarded"),
        (adding("Via", "1.1 proxy"), "Via"),
        (adding("X-Real-IP", "203.0.113.7"), "X-Real-Ip"),
        (adding("CF-Connecting-IP", "203.0.113.7"), "Cf-Connecting-Ip"),
    ],
)
def test_a_request_through_a_proxy_of_this_machine_is_not_local(
    opened: LabProcess, rewrite: Rewrite, sign: str
) -> None:
    assert opened.port is not None
    assert get(opened.url).status_code == 200
    with reverse_proxy(opened.port, rewrite) as proxy:
        assert sign in refused(get(proxy))


@pytest.mark.parametrize("claimed", ["127.0.0.1", "::1", "localhost", "", "127.0.0.1, 127.0.0.1"])
def test_forged_local_address_is_ignored(opened: LabProcess, claimed: str) -> None:
    assert opened.port is not None
    for rewrite in (silent, appending):
        with reverse_proxy(opened.port, rewrite) as proxy:
            refused(get(proxy, {"X-Forwarded-For": claimed}))
    refused(get(opened.url, {"X-Forwarded-For": claimed}))


def test_request_through_a_configured_proxy_is_not_local(tmp_path: Path) -> None:
    settings = {"RELAB_HTTP__TRUSTED_PROXIES": '["127.0.0.1/32"]'}
    with LabProcess.serve(tmp_path, "--workers", "0", settings=settings) as server:
        assert server.port is not None
        with reverse_proxy(server.port, silent) as proxy:
            assert "RELAB_HTTP__TRUSTED_PROXIES" in refused(get(proxy))
        with reverse_proxy(server.port, appending) as proxy:
            # The client writes an address of its own choice before the one that the proxy appends.
            refused(get(proxy, {"X-Forwarded-For": "203.0.113.99"}, source="127.0.0.2"))
        wait_until(lambda: "client=127.0.0.2" in plain(server.log()), what="the client in the log")

        assert "203.0.113.99" not in server.log()
        # Another address of this machine is not a proxy, so its requests stay local.
        assert get(server.url, source="127.0.0.3").status_code == 200


def test_a_wrong_proxy_setting_is_refused_by_name(tmp_path: Path) -> None:
    done = run_lab("serve", home=tmp_path, settings={"RELAB_HTTP__TRUSTED_PROXIES": '["nginx"]'})

    assert done.returncode == 69
    assert "http.trusted_proxies.0" in done.stderr


def test_a_server_stays_closed_when_its_tokens_have_ended_until_it_is_reopened(tmp_path: Path) -> None:
    made = run_lab("auth", "create-token", "--name", "admin", "--scope", "admin", "--json", home=tmp_path)
    token_id = made.stdout.partition('"token_id": "')[2].partition('"')[0]
    said = run_lab("auth", "revoke", token_id, home=tmp_path).stderr
    assert "every request is rejected" in said

    with LabProcess.serve(tmp_path, "--workers", "0") as server:
        assert get(server.url).status_code == 401
        assert "lab auth reopen" in run_lab("doctor", home=tmp_path).stdout
        assert run_lab("auth", "reopen", "--yes", home=tmp_path).returncode == 0
        wait_until(lambda: get(server.url).status_code == 200, what="the open installation")

    events = run_lab("auth", "history", home=tmp_path).stdout
    assert [kind for kind in ("reopened", "token_revoked", "token_created") if kind in events] == [
        "reopened", "token_revoked", "token_created",
    ]  # fmt: skip


def plain(log: str) -> str:
    """Return the log without ANSI colours."""
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", log)
