"""The health of a target, as `lab doctor` shows it."""

from __future__ import annotations

import pytest

from relab.core.errors import UnavailableError
from relab.incidents.capabilities import health_of
from relab.incidents.transport.bodies import MAX_BYTES
from support.shops.well_targets import a_target

PATH = "/api/v1/health"


def test_health_is_the_field_that_the_responder_polls() -> None:
    with a_target(lambda: {PATH: {"health_status": "degraded", "status": "ok"}}) as url:
        assert health_of(url) == "degraded"


def test_answer_that_the_responder_would_not_read_is_an_error() -> None:
    answer = {"health_status": "healthy", "pad": "x" * MAX_BYTES}
    with a_target(lambda: {PATH: answer}) as url, pytest.raises(UnavailableError, match="more than 4,194,304 bytes"):
        health_of(url)


@pytest.mark.parametrize("answer", [{"status": "ok"}, {"health_status": 1}, [], None])
def test_answer_without_health_is_an_error_with_a_remedy(answer: object) -> None:
    with a_target(lambda: {PATH: answer}) as url, pytest.raises(UnavailableError, match="health_status") as error:
        health_of(url)
    assert "TARGET_API_BASE_URL" in str(error.value.remedy)
