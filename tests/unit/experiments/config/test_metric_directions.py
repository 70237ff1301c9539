"""`direction_by_name`, and the warning about primary metrics whose direction is unknown."""

from __future__ import annotations

from typing import Any

import pytest

from relab.experiments.config.metric_directions import direction_by_name, direction_warnings
from support.experiments.configs import config


@pytest.mark.parametrize(
    ("direction", "names"),
    [
        (
            "minimize",
            ["latency_ms", "tokens_in", "total-cost", "val_loss", "loss_score", "tokens_per_task", "seconds_per_token"],
        ),
        ("minimize", ["errors_per_second", "cost_per_hour", "usd/h", "retries_per_min"]),
        ("maximize", ["f1", "score.exact", "throughput", "rps"]),
        ("maximize", ["tokens_per_second", "tokens/s", "Requests/sec", "steps_per_min"]),
        ("maximize", ["score_per_usd", "accuracy_per_1k_tokens", "solved/hour"]),
        # A group of metrics before the slash.
        ("minimize", ["eval/loss", "val/latency_ms", "agent/math/cost_usd"]),
        ("maximize", ["train/accuracy", "eval/math/tokens/s", "time/tokens_per_second"]),
        # The quantity after the unit of the ratio.
        ("minimize", ["per_step_loss", "avg_per_task_tokens", "per_token_latency_ms"]),
        ("maximize", ["mean_per_class_accuracy", "eval/mean_per_class_accuracy"]),
        ("minimize", ["s/step", "s_per_token"]),
        (
            None,
            ["quux", "", "evictions_per_second", "evictions/seconds", "per_second", "mean_s", "quux_per_total_cost"],
        ),
    ],
)
def test_the_words_of_a_name_decide_the_direction(direction: str | None, names: list[str]) -> None:
    assert {name: direction_by_name(name) for name in names} == dict.fromkeys(names, direction)


DECLARED = {"id": "quux", "source": "runner", "direction": "minimize"}
PRIMARY = {"id": "quux", "source": "runner", "primary": True}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"analysis": {"primary_metrics": ["success", "quux", "latency_ms"]}}, ["quux"]),
        ({"analysis": {"primary_metrics": ["quux"]}, "metrics": [DECLARED]}, []),
        ({"metrics": [PRIMARY]}, ["quux"]),
        ({"analysis": {"primary_metrics": ["success"], "secondary_metrics": ["quux"]}}, []),
        ({"experiment__workload_type": "trainer", "analysis": {"primary_metrics": ["quux"]}}, []),
    ],
)
def test_an_unknown_direction_of_a_primary_metric_is_a_warning(changes: dict[str, Any], named: list[str]) -> None:
    found = direction_warnings(config(**changes))

    assert len(found) == len(named)
    for sentence, name in zip(found, named, strict=True):
        assert f"{{id: {name}, source: runner, direction: minimize}}" in sentence
