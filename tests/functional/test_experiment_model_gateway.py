"""The gateway to a model server from a container, from a node of a Ray cluster, and over TLS."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from contract.sandbox.rooms import IMAGE, require_docker
from rig.ray_cluster import ray_cluster
from support.components.ray import require_ray
from support.experiments.projects import Project

KEY = "sk-planted-0123456789abcdef"
CHAT = "/v1/chat/completions"

HARNESS = f"""\
import urllib.error, urllib.request
body = json.dumps({{"model": "m", "messages": [{{"role": "user", "content": "hello"}}]}}).encode()
headers = {{"Content-Type": "application/json", "Authorization": "Bearer {KEY}"}}
request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, headers)
try:
    with urllib.request.urlopen(request) as response:
        said = json.load(response)["choices"][0]["message"]["content"]
except urllib.error.HTTPError as error:
    said = f"status {{error.code}}: {{error.read().decode()}}"
answer(answer=said)
"""
# The image has no Python.
BASH_HARNESS = """\
#!/usr/bin/env bash
ids=$(sed -n '/"ids": {/,/}/p' "$2" | sed '$s/,$//' | tr -d '\\n')
place=${OPENAI_BASE_URL#http://}
host=${place%%/*}
body='{"model": "m", "messages": [{"role": "user", "content": "hello"}]}'
exec 3<>"/dev/tcp/${host%%:*}/${host##*:}"
printf 'POST /v1/chat/completions HTTP/1.0\\r\\nHost: %s\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n%s' \\
  "$host" "${#body}" "$body" >&3
said=$(cat <&3 | sed -n 's/.*"content": *"\\([^"]*\\)".*/\\1/p')
printf '{"schema_version": "trial_output_v1", %s, "outcome": "success", "answer": "%s"}' "${ids%,}" "$said" > "$4"
"""


@dataclass
class ModelServer:
    """A server with OpenAI's interface that numbers its answers, over TLS if it has a context."""

    context: ssl.SSLContext | None = None
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                asked.append(self.path)
                message = {"role": "assistant", "content": f"answer {len(asked)}"}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                said = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
                raw = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if self.context is not None:
            self._server.socket = self.context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        scheme = "http" if self.context is None else "https"
        self.place = f"127.0.0.1:{self._server.server_port}"
        self.url = f"{scheme}://{self.place}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., ModelServer]]:
    made: list[ModelServer] = []

    def start(context: ssl.SSLContext | None = None) -> ModelServer:
        made.append(ModelServer(context))
        return made[-1]

    yield start
    for server in made:
        server.close()


def said_by(project: Project, *options: str, **more: str) -> tuple[Any, dict[str, Any]]:
    """Run the experiment of one trial; return its answer and its metrics."""
    run = project.run(*options, **more)
    (row,) = run.rows.values()
    return run.json("trials/trial_1/trial_output.json").get("answer"), row["metrics"]


def gateway_to(server: ModelServer, **more: Any) -> dict[str, Any]:
    return {"model_gateways": [{"variable": "OPENAI_BASE_URL", "upstream": server.url, **more}]}


@pytest.mark.full
def test_container_without_network_reaches_the_model_and_its_cache_by_the_gateway(
    tmp_path: Path, serve: Callable[..., ModelServer]
) -> None:
    require_docker()
    server = serve()
    project = Project.make(tmp_path, tasks=1)
    project.write_harness(BASH_HARNESS)
    project.configure(
        command=["./harness"],
        runtime={
            "sandbox": {"mode": "container", "image": IMAGE},
            "network": {"mode": "allowlist_enforced", "allowed_hosts": [server.place]},
            **gateway_to(server, cache={}),
        },
    )

    first, second = said_by(project), said_by(project)

    assert (first[0], second[0]) == ("answer 1", "answer 1")
    assert (first[1]["model_cache_misses"], second[1]["model_cache_hits"]) == (1, 1)
    assert server.asked == [CHAT]


@pytest.mark.full
def test_node_of_a_cluster_passes_requests_on_and_stores_nothing(
    tmp_path: Path, serve: Callable[..., ModelServer]
) -> None:
    require_ray()
    server = serve()
    project = Project.make(tmp_path, HARNESS, tasks=1)
    project.configure(runtime=gateway_to(server, cache={}))
    with ray_cluster(nodes=1) as cluster:
        on_ray = ("--executor", "ray", "--address", cluster.address)
        first, second = said_by(project, *on_ray), said_by(project, *on_ray)

    assert (first[0], second[0]) == ("answer 1", "answer 2")
    assert first[1]["model_requests"] == 1
    assert server.asked == [CHAT, CHAT]
    assert not (project.root / ".lab/cache/model_answers").exists()


@pytest.mark.full
def test_server_over_tls_is_reached_only_if_its_certificate_is_trusted(
    tmp_path: Path, serve: Callable[..., ModelServer]
) -> None:
    certificate, context = _self_signed(tmp_path)
    server = serve(context)
    project = Project.make(tmp_path, HARNESS, tasks=1)
    project.configure(runtime=gateway_to(server))

    trusted, _ = said_by(project, SSL_CERT_FILE=str(certificate))
    refused, _ = said_by(project)

    assert trusted == "answer 1"
    assert refused.startswith("status 502")
    assert "CERTIFICATE_VERIFY_FAILED" in refused
    assert server.asked == [CHAT]


def _self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return the file of a certificate for 127.0.0.1, and the context of a server that has it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "model")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "private.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    return certificate, context
