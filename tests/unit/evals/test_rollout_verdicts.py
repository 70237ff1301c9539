"""The simulation of rollout verdicts, with few runs: its error rates and power are those that the documents promise."""

from __future__ import annotations

import numpy as np
import pytest

from evals.judge import (
    Row,
    default_plan,
    error_bounds,
    hard_services,
    identical_arms,
    planned,
    rejected_procedures,
    simulated,
    whole_rollouts,
)
from evals.rollout_noise import Service
from relab.rollouts.judging.procedure import false_pass_rate

RUNS = 4_000


@pytest.fixture(scope="module")
def same() -> list[Row]:
    return list(identical_arms(runs=RUNS, draw=np.random.default_rng(7)))


def test_identical_arms_pass_in_less_than_one_percent(same: list[Row]) -> None:
    shipped = [row for row in same if row.table == "A/A" and "seed's rule" not in row.procedure]

    assert len(shipped) == 10
    # At a true rate of 0.75 %, 47 or more of 4,000 have a probability of 0.2 %.
    assert [row.line for row in shipped if row.passed > 46] == []
    assert sum(row.passed for row in shipped) < 0.01 * RUNS * len(shipped)


def test_seed_rule_passes_identical_arms_as_often_as_the_contract_says(same: list[Row]) -> None:
    rates = {row.setting: row.passed / row.runs for row in same if "seed's rule" in row.procedure}

    assert rates["window SD 0%"] < 0.01
    assert rates["window SD 5%"] == pytest.approx(0.045, abs=0.015)
    assert rates["window SD 10%"] == pytest.approx(0.165, abs=0.02)
    assert rates["window SD 20%"] == pytest.approx(0.30, abs=0.025)


@pytest.mark.parametrize("sd", [0.05, 0.10, 0.15, 0.20])
def test_improvement_of_20_percent_is_found_with_the_planned_rounds(sd: float) -> None:
    row = simulated("", "", default_plan(), Service(sd), -20, runs=1_000, draw=np.random.default_rng(8))

    assert row.passed / row.runs > 0.8


def test_two_rounds_never_pass() -> None:
    row = simulated("", "", planned(rounds=2), Service(0.0), -90, runs=500, draw=np.random.default_rng(8))

    assert row.passed == 0


def test_rejected_procedures_are_worse_than_promised() -> None:
    rows = list(rejected_procedures(runs=4_000, draw=np.random.default_rng(9)))

    looks = [row.passed / row.runs for row in rows if "a look at" in row.procedure]
    assert len(looks) == 2
    assert min(looks) > 0.012


def test_bound_of_the_error_rate_holds_unless_bursts_are_very_long() -> None:
    rows = error_bounds(runs=600, draw=np.random.default_rng(10))

    # The rate is 2.5 % for independent errors and about 3 % in bursts; 34 or more of 600 have a probability of 0.1 %.
    assert [row.line for row in rows if row.setting != "long bursts" and row.passed > 33] == []


def test_tables_can_be_made_from_few_runs() -> None:
    rows = list(hard_services(runs=10, draw=np.random.default_rng(12)))

    assert {row.runs for row in rows} == {10}
    assert "10 |" in rows[0].line


@pytest.mark.full
def test_rollouts_drawn_by_request_are_judged_like_simulated_windows() -> None:
    same, gain = whole_rollouts(runs=6, draw=np.random.default_rng(11))

    assert same.passed == 0
    assert gain.passed >= 4


def test_measured_rate_of_a_verdict_agrees_with_the_simulation() -> None:
    assert 0.002 < false_pass_rate(default_plan(), 0.15) < 0.01
    assert false_pass_rate(planned(rounds=2), 0.15) == 0
