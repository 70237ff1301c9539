"""Forms in which services keep a flag: with an ETag, without a body, with numbers of another spelling."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from relab.rollouts.errors import FlagsChangedError, SubjectError, TargetUnavailableError
from relab.rollouts.execution.restoring import restore_flags
from relab.rollouts.plans.subject import HttpFlagSubject
from relab.rollouts.record import OpenChange
from relab.rollouts.targets.http_flag import HttpFlagTarget
from relab.rollouts.targets.protocol import change_flags
from support.components.required import require_program


class Limit(ThreadingHTTPServer):
    """The service: `PUT /limit/20` without a body or `PUT /limit` with a JSON number sets the limit, a real number.

    Attributes:
        limit: the limit.
        revision: the number of changes; the answer to a read has it in its `ETag`.
        weak: whether the `ETag` is weak.
        quoted: whether the `ETag` has the quotation marks of HTTP.
        untagged: the number of next reads whose answers have no `ETag`.
        most_reads: the number of reads after which reads are rejected with 429.
        bodies: the bodies of all changes.
    """

    limit = 10.0
    revision = 1
    weak = False
    quoted = True
    untagged = 0
    most_reads = 1_000

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/limit"

    @property
    def tag(self) -> str:
        return ("W/" if self.weak else "") + f'"r{self.revision}"'


class _Handler(BaseHTTPRequestHandler):
    server: Limit

    def do_GET(self) -> None:
        self.server.most_reads -= 1
        self.server.untagged -= 1
        tag = self.server.tag if self.server.quoted else self.server.tag.strip('"')
        tags = {} if self.server.untagged >= 0 else {"ETag": tag}
        status = 429 if self.server.most_reads < 0 else 200
        self._answer(status, json.dumps({"limit": self.server.limit}).encode(), **tags)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("If-Match", self.server.tag) != self.server.tag:
            self._answer(412, b"{}")
            return
        self.server.bodies.append(body)
        self.server.limit = float(self.path.rpartition("/")[2] if self.path != "/limit" else body)
        self.server.revision += 1
        self._answer(204, b"")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Print nothing."""


@pytest.fixture
def limit() -> Iterator[Limit]:
    with Limit() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def target_of(url: str, **fields: Any) -> HttpFlagTarget:
    return HttpFlagTarget(HttpFlagSubject(kind="http", url=url, pointer="/limit", b=20, **fields), {}, timeout_s=5.0)


def test_number_that_the_service_returns_as_a_real_number_is_in_force(limit: Limit) -> None:
    assert change_flags(target_of(limit.url), 20, within_s=0.0).value == 20.0


def test_change_names_the_etag_that_was_read(limit: Limit) -> None:
    target = target_of(limit.url, version_header="ETag")
    before = target.read()
    limit.revision += 1

    with pytest.raises(FlagsChangedError):
        target.send(20, before.version)
    target.send(20, target.read().version)

    assert limit.limit == 20


def test_change_quotes_a_version_that_the_service_returns_without_quotation_marks(limit: Limit) -> None:
    limit.quoted = False
    target = target_of(limit.url, version_header="ETag")

    target.send(20, target.read().version)

    assert limit.limit == 20


def test_weak_etag_is_an_error_before_the_first_change(limit: Limit) -> None:
    limit.weak = True

    with pytest.raises(SubjectError, match="weak tag") as caught:
        target_of(limit.url, version_header="ETag").read()

    assert "version_header" in (caught.value.remedy or "")


def test_missing_header_of_the_version_is_an_error(limit: Limit) -> None:
    with pytest.raises(SubjectError, match="no header X-Revision"):
        target_of(limit.url, version_header="X-Revision").read()


def test_restoration_is_repeated_after_an_answer_without_the_version(limit: Limit) -> None:
    limit.limit, limit.untagged = 20, 1
    target = target_of(limit.url, version_header="ETag", reads=1)

    assert restore_flags(target, OpenChange(inverse=10, values=[20]), within_s=10.0).restored
    assert limit.limit == 10


def test_limit_of_requests_is_an_error_that_names_the_number_of_reads(limit: Limit) -> None:
    limit.most_reads = 20

    with pytest.raises(TargetUnavailableError, match="429") as caught:
        target_of(limit.url).read()

    assert "`reads: 1`" in (caught.value.remedy or "")


def test_two_places_of_the_version_are_rejected() -> None:
    with pytest.raises(ValidationError, match="version_pointer and version_header"):
        target_of("http://127.0.0.1/limit", version_header="ETag", version_pointer="/version")


def test_change_without_a_body_is_sent_and_printed_without_one(limit: Limit) -> None:
    require_program("curl", "apt-get install curl")
    target = target_of(f"{limit.url}/$value", read_url=limit.url, body=None)

    target.send(20, None)
    subprocess.run(["sh", "-c", target.command(30)], check=True, capture_output=True)

    assert limit.bodies == [b"", b""]
    assert limit.limit == 30
