"""Access to `POST /v1/traces`: the rules of `POST /agent-runs`, with errors in OTLP's own format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.access.models import Scope
from relab.bootstrap import Services
from relab.server import create_app
from support.api.client import loopback_client, running_api
from support.otlp.traces import ENCODINGS, Encoding, Trace, assert_refused, assert_stored, assert_taken, encode, post
from support.telemetry.runs import minimal_run

REMOTE = {"client_host": "203.0.113.9", "url": "http://relab.example"}
TRACE = Trace("access")


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with running_api(services) as client:
        yield client


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_open_installation_accepts_traces_from_its_own_machine_but_not_from_foreign_pages(
    services: Services, encoding: Encoding
) -> None:
    body = encode(TRACE.good(), encoding)
    app = create_app(services)
    with loopback_client(app) as here:
        assert assert_taken(post(here, body, encoding)) == (0, "")
        assert_stored(here, TRACE)
        foreign = post(here, encode(Trace("foreign").good(), encoding), encoding, origin="https://evil.example")
        assert_refused(foreign, 403, encoding)
        assert here.get(f"/agent-runs/{Trace('foreign').id}").status_code == 404


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_open_installation_rejects_other_machines(services: Services, encoding: Encoding) -> None:
    with loopback_client(create_app(services), client_host="203.0.113.9") as remote:
        assert_refused(post(remote, encode(TRACE.good(), encoding), encoding), 403, encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_ingest_secret_allows_traces_and_runs(make_services: Callable[..., Services], encoding: Encoding) -> None:
    services = make_services(app_ingest_secret="let me in")
    body = encode(TRACE.good(), encoding)
    with loopback_client(create_app(services), **REMOTE) as remote:
        missing = post(remote, body, encoding)
        assert "X-Ingest-Secret" in assert_refused(missing, 401, encoding)
        assert missing.headers["www-authenticate"] == "Bearer"
        for wrong in ("let me out", "", "let me in "[:-2], "é"):
            headers: Any = {"X-Ingest-Secret": wrong.encode()}
            reason = assert_refused(post(remote, body, encoding, **headers), 401, encoding)
            assert not wrong or wrong not in reason
        right = {"X-Ingest-Secret": "let me in"}
        assert assert_taken(post(remote, body, encoding, **right)) == (0, "")
        assert remote.post("/agent-runs", json=minimal_run("r"), headers=right).status_code == 201
        # The secret does not allow reading.
        assert remote.get(f"/agent-runs/{TRACE.id}/spans", headers=right).status_code in {401, 403}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_token_with_the_ingest_scope_is_accepted_and_others_are_rejected(
    services: Services, encoding: Encoding
) -> None:
    tokens = {scope: services.access.create_token(scope.value, [scope]).token for scope in Scope}
    body = encode(TRACE.good(), encoding)
    with loopback_client(create_app(services), **REMOTE) as remote:
        assert_refused(post(remote, body, encoding), 401, encoding)
        assert_refused(post(remote, body, encoding, authorization="Bearer relab_x_y"), 401, encoding)
        for scope, token in tokens.items():
            traces = post(remote, body, encoding, authorization=f"Bearer {token}")
            runs = remote.post(
                "/agent-runs", json=minimal_run(f"by-{scope}"), headers={"authorization": f"Bearer {token}"}
            )
            assert runs.status_code in {201, 403}
            assert (traces.status_code == 200) == (runs.status_code == 201), scope
            if traces.status_code != 200:
                assert Scope.INGEST.value in assert_refused(traces, 403, encoding)
        reader = {"authorization": f"Bearer {tokens[Scope.READ]}"}
        assert remote.get(f"/agent-runs/{TRACE.id}/spans", headers=reader).status_code == 200


def test_unauthorized_sender_is_rejected_before_its_body_is_read(client: TestClient, services: Services) -> None:
    services.access.create_token("ci", [Scope.READ])
    for content, headers in ((b"\xff", {}), (b"\xff", {"content-encoding": "br"}), (b"x" * 1_000_000, {})):
        assert_refused(post(client, content, **headers), 401, "protobuf")
