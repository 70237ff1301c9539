"""Forms in which services keep a flag: with an ETag, without a body, with numbers of another spelling."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
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
from support.rollouts.flag_servers import LimitServer, serving


@pytest.fixture
def limit() -> Iterator[LimitServer]:
    with serving(LimitServer()) as server:
        yield server


def target_of(url: str, **fields: Any) -> HttpFlagTarget:
    return HttpFlagTarget(HttpFlagSubject(kind="http", url=url, pointer="/limit", b=20, **fields), {}, timeout_s=5.0)


def test_number_that_the_service_returns_as_a_real_number_is_in_force(limit: LimitServer) -> None:
    assert change_flags(target_of(limit.flag_url), 20, within_s=0.0).value == 20.0


def test_change_names_the_etag_that_was_read(limit: LimitServer) -> None:
    target = target_of(limit.flag_url, version_header="ETag")
    before = target.read()
    limit.revision += 1

    with pytest.raises(FlagsChangedError):
        target.send(20, before.version)
    target.send(20, target.read().version)

    assert limit.limit == 20


def test_change_quotes_a_version_that_the_service_returns_without_quotation_marks(limit: LimitServer) -> None:
    limit.quoted = False
    target = target_of(limit.flag_url, version_header="ETag")

    target.send(20, target.read().version)

    assert limit.limit == 20


def test_weak_etag_is_an_error_before_the_first_change(limit: LimitServer) -> None:
    limit.weak = True

    with pytest.raises(SubjectError, match="weak tag") as caught:
        target_of(limit.flag_url, version_header="ETag").read()

    assert "version_header" in (caught.value.remedy or "")


def test_missing_header_of_the_version_is_an_error(limit: LimitServer) -> None:
    with pytest.raises(SubjectError, match="no header X-Revision"):
        target_of(limit.flag_url, version_header="X-Revision").read()


def test_restoration_is_repeated_after_an_answer_without_the_version(limit: LimitServer) -> None:
    limit.limit, limit.untagged = 20, 1
    target = target_of(limit.flag_url, version_header="ETag", reads=1)

    assert restore_flags(target, OpenChange(inverse=10, values=[20]), within_s=10.0).restored
    assert limit.limit == 10


def test_limit_of_requests_is_an_error_that_names_the_number_of_reads(limit: LimitServer) -> None:
    limit.most_reads = 20

    with pytest.raises(TargetUnavailableError, match="429") as caught:
        target_of(limit.flag_url).read()

    assert "`reads: 1`" in (caught.value.remedy or "")


def test_two_places_of_the_version_are_rejected() -> None:
    with pytest.raises(ValidationError, match="version_pointer and version_header"):
        target_of("http://127.0.0.1/limit", version_header="ETag", version_pointer="/version")


def test_change_without_a_body_is_sent_and_printed_without_one(limit: LimitServer) -> None:
    require_program("curl", "apt-get install curl")
    target = target_of(f"{limit.flag_url}/$value", read_url=limit.flag_url, body=None)

    target.send(20, None)
    subprocess.run(["sh", "-c", target.command(30)], check=True, capture_output=True)

    assert limit.bodies == [b"", b""]
    assert limit.limit == 30
