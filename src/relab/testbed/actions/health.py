"""Probes the target's health as its users see it, for `GET /action/verify-target-health`."""

from __future__ import annotations

from typing import Any

import httpx

MAX_ERROR_RATE_PERCENT = 1.0
_TIMEOUT_S = 3.0


class TargetHealth:
    """Probes the target's health through its public routes, like any client.

    Args:
        base_url: the address of the target.
    """

    def __init__(self, base_url: str) -> None:
        # Open a new connection for each request, so that it may reach any worker, as a user's does.
        self._client = httpx.Client(
            base_url=base_url,
            timeout=_TIMEOUT_S,
            trust_env=False,
            verify=base_url.startswith("https:"),  # certificates take long to load
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def close(self) -> None:
        """Close the HTTP client that probes the target."""
        self._client.close()

    def verify(self) -> dict[str, Any]:
        """Return the target's health as JSON.

        - `is_healthy`: true if `problems` is empty.
        - `problems`: a list of sentences. There is a problem if a probe fails, `health_status` is not `healthy`,
          `error_rate` is above 1 %, or `pool_health` is `critical`.
        - `health_status`, `error_rate` (percent), `avg_response_time_ms`, `p95_ms`, `pool_health`, `pool_utilization`:
          as the target reports them; None if it does not report the value.
        """
        found: dict[str, Any] = {}
        problems: list[str] = []
        for name, path in (("health", "health"), ("metrics", "metrics"), ("pool", "pool/status")):
            try:
                response = self._client.get(f"/api/v1/{path}")
                response.raise_for_status()
                found[name] = _object(response.json())
            except (httpx.HTTPError, ValueError) as error:
                problems.append(f"{name}: {type(error).__name__}: {error}"[:300])
        health, metrics, pool = (found.get(name, {}) for name in ("health", "metrics", "pool"))
        if "health" in found and health.get("health_status") != "healthy":
            problems.append(f"health_status is {health.get('health_status')!r}")
        error_rate = metrics.get("error_rate")
        if isinstance(error_rate, int | float) and error_rate > MAX_ERROR_RATE_PERCENT:
            problems.append(f"error_rate is {error_rate:g} %, above {MAX_ERROR_RATE_PERCENT:g}")
        if pool.get("pool_health") == "critical":
            problems.append("pool_health is 'critical'")
        return {
            "is_healthy": not problems,
            "problems": problems,
            "health_status": health.get("health_status"),
            "error_rate": metrics.get("error_rate"),
            "avg_response_time_ms": metrics.get("avg_response_time_ms"),
            "p95_ms": metrics.get("p95_ms"),
            "pool_health": pool.get("pool_health"),
            "pool_utilization": pool.get("pool_utilization"),
        }


def _object(answer: Any) -> dict[str, Any]:
    """Check that the answer to a probe is a JSON object, and return it.

    Raises:
        ValueError: the answer is not a JSON object.
    """
    if not isinstance(answer, dict):
        raise ValueError("the answer is not a JSON object")  # noqa: TRY004 a value from outside
    return answer
