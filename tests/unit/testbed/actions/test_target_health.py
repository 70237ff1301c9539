"""The health of the target: answers of an unexpected form are problems, not errors."""

from __future__ import annotations

import httpx
import pytest

from relab.testbed.actions import health
from relab.testbed.actions.health import TargetHealth


@pytest.mark.parametrize(
    ("body", "problem"),
    [("[]", "not a JSON object"), ("null", "not a JSON object"), ('{"error_rate": null}', "health_status is None")],
)
def test_unexpected_answer_is_a_problem(body: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = httpx.Client(
        base_url="http://target", transport=httpx.MockTransport(lambda _request: httpx.Response(200, text=body))
    )
    monkeypatch.setattr(health.httpx, "Client", lambda **_options: client)
    target = TargetHealth("http://target")
    found = target.verify()
    target.close()

    assert found["is_healthy"] is False
    assert any(problem in text for text in found["problems"])
    assert found["error_rate"] is None
