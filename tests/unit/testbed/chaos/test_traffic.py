"""Faults by traffic, spike and retry storm: the load plans that they send to their clients."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from relab.load.models import LoadPlan
from relab.testbed.chaos.faults.traffic import RetryStorm, Spike, Storm, TrafficSpike

URL = "http://127.0.0.1:9"


class Told:
    """Records the load plans that a fault sends to its clients."""

    def __init__(self) -> None:
        self.plans: list[LoadPlan | None] = []
        self.closed = False

    def send(self, plan: LoadPlan | None) -> None:
        self.plans.append(plan)

    def close(self) -> None:
        self.closed = True

    @property
    def last(self) -> LoadPlan:
        plan = self.plans[-1]
        assert plan is not None
        return plan


def test_spike_rate_follows_the_level_and_stops_at_zero() -> None:
    told = Told()
    spike = TrafficSpike(URL, Spike(seed=3), peak_per_s=600.0, sender=told)

    for level in (0.1, 0.5, 1.0):
        spike.set_level(level)
        assert [stage.rate_per_s for stage in told.last.stages] == [600.0 * level]
    spike.set_level(0.0)
    assert told.plans[-1] is None
    spike.end()
    assert told.closed


def test_storm_begins_above_capacity_and_continues_with_few_visitors() -> None:
    told = Told()
    given = Storm(trigger_s=2.0, patience_ms=150, retries=9, retry_delay_ms=40, clients=80)

    RetryStorm(URL, given, capacity_per_s=300.0, visitors_per_s=100.0, sender=told).set_level(0.5)

    trigger, after = told.last.stages
    assert trigger.duration_s == 2.0
    assert trigger.rate_per_s == 600.0
    assert after.rate_per_s == 50.0
    assert told.last.timeout_s == 0.15
    assert told.last.retries == 9
    assert told.last.retry_delay_s == 0.04
    assert told.last.max_in_flight == 40


def test_clients_send_a_browser_name_and_the_seed_chooses_the_product() -> None:
    told = Told()
    for seed in (1, 1, 2):
        TrafficSpike(URL, Spike(seed=seed), peak_per_s=1.0, sender=told).set_level(1.0)

    first, same, other = told.plans
    assert first == same != other
    assert "relab" not in told.last.model_dump_json()
    assert told.last.headers["User-Agent"].startswith("Mozilla/")


@pytest.mark.parametrize("wrong", [{"multiple": 0}, {"rate_per_s": -1}, {"intensity": 2}, {"clients": 5}])
def test_invalid_spike_parameter_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError) as caught:
        Spike.model_validate(wrong)
    assert caught.value.errors()[0]["loc"] == (next(iter(wrong)),)
