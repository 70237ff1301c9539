"""A detector that learned from healthy polls, and polls to feed to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relab.incidents.detection.detector import DetectionResult, Detector
from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.models import Snapshot

SECOND_US = 1_000_000
SETTINGS = DetectionSettings(poll_interval_s=1.0)
GOOD = {
    "errors.pct": 0.0,
    "latency.p95_ms": 20.0,
    "latency.avg_ms": 8.0,
    "traffic.requests": 300.0,
    "traffic.rps": 10.0,
}
WORDS = {"health": "healthy", "pool": "healthy", "dependency.database": "ok", "worker.1": "running"}


class Polls:
    """A detector that learned from healthy polls, and helpers that feed it further polls."""

    def __init__(self, settings: DetectionSettings = SETTINGS, healthy: int = 20) -> None:
        self.detector = Detector(settings)
        self.at_us = 1_700_000_000 * SECOND_US
        for number in range(healthy):
            self.poll({"latency.p95_ms": 20.0 + number % 3})

    def poll(
        self, numbers: Mapping[str, float] | None = None, words: Mapping[str, str] | None = None, **more: Any
    ) -> DetectionResult:
        self.at_us += SECOND_US
        told_at_us = more.pop("told_at_us", self.at_us)
        snapshot = Snapshot(self.at_us, told_at_us, {**GOOD, **(numbers or {})}, {**WORDS, **(words or {})}, **more)
        return self.detector.observe(snapshot)

    def polls(self, count: int, *args: Any, **more: Any) -> DetectionResult:
        return [self.poll(*args, **more) for _ in range(count)][-1]
