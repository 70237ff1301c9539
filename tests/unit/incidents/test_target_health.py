"""The health of a target, as `lab doctor` shows it."""

from __future__ import annotations

import pytest

from relab.core.errors import UnavailableError
from relab.incidents.capabilities import health_of
from relab.incidents.transport.bodies import MAX_BYTES
from support.shops.well_targets import a_target

PATH, METRICS = "/api/v1/health", "/api/v1/metrics"


def test_health_is_the_field_that_the_responder_polls() -> None:
    with a_target(lambda: {PATH: {"health_status": "degraded", "status": "ok"}, METRICS: {}}) as url:
        assert health_of(url) == "degraded"


def test_answer_that_the_responder_would_not_read_is_an_error() -> None:
    answer = {"health_status": "healthy", "pad": "x" * MAX_BYTES}
    with a_target(lambda: {PATH: answer}) as url, pytest.raises(UnavailableError, match="more than 4,194,304 bytes"):
        health_of(url)


@pytest.mark.parametrize("answer", [{"status": "ok"}, {"health_status": 1}, [], None])
def test_answer_without_health_is_an_error_with_a_remedy(answer: object) -> None:
    with a_target(lambda: {PATH: answer, METRICS: {}}) as url, pytest.raises(UnavailableError, match=PATH) as error:
        health_of(url)
    assert "TARGET_API_BASE_URL" in str(error.value.remedy)


@pytest.mark.parametrize(("answer", "reason"), [(None, "answered 404"), ([], "no JSON object")])
def test_target_without_metrics_is_an_error(answer: object, reason: str) -> None:
    answers = {PATH: {"health_status": "healthy"}, METRICS: answer}
    problem = f"{METRICS}: .*{reason}"
    with a_target(lambda: answers) as url, pytest.raises(UnavailableError, match=problem) as error:
        health_of(url)
    assert "docs/own-service.md" in str(error.value.remedy)
