"""The registry of job back ends: the suite covers each, and unknown names and missing settings are errors."""

from __future__ import annotations

import pytest

from relab.core.errors import ConfigurationError
from relab.jobs.backend import BackendOptions
from relab.jobs.models import DEFAULT_TIME_LIMITS_S
from relab.jobs.opening import backend_names, open_backend

IN_THE_SUITE = {"embedded", "rq"}
"""The back ends of the installations in `conftest.py`."""

OPTIONS = BackendOptions(None, "rca", "relab.bootstrap.run_queued_job", 0.1, DEFAULT_TIME_LIMITS_S)


def test_conformance_suite_covers_every_back_end() -> None:
    assert set(backend_names()) == IN_THE_SUITE


def test_unknown_back_end_is_rejected_with_the_known_names() -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_backend("carrier-pigeon", OPTIONS)

    assert all(name in str(caught.value) for name in backend_names())


def test_back_end_that_needs_redis_names_the_setting() -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_backend("rq", OPTIONS)

    assert "REDIS_URL" in str(caught.value)
