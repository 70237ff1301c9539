"""The windows of a plan and their time, as a dry run prints them."""

from __future__ import annotations

import pytest

from relab.rollouts.obstacles import planned_time
from relab.rollouts.plans.schedule import rounds_that_fit
from relab.rollouts.search.spec import Parameter, Screening, SearchSpec
from unit.rollouts.rollout_windows import plan_of

_WINDOW = "window_sec: 3, warmup_sec: 1"
_METRIC = "kind: prometheus, url: 'http://127.0.0.1:9090', query: q$arm, delay_s: 2"
_JSON_METRIC = "kind: json, url: 'http://127.0.0.1:9090/figure', pointer: '', delay_s: 2"
_LIVE = f"subject: {{live: true, flags: {{kind: product_flag, key: k, a: x, b: y}}, metric: {{{_METRIC}, requests: r, errors: e}}}}"


@pytest.mark.parametrize(
    ("rounds", "rest", "text"),
    [
        (8, "", "16 windows, 64 s"),
        ("auto", "", "16 to 64 windows, 64 to 256 s"),
        (8, "early_stop: true", "6 to 16 windows, 24 to 64 s"),
        (2, "early_stop: true", "4 windows, 16 s"),
        ("auto", "time_budget: 80", "16 to 20 windows, 64 to 80 s"),
        (
            8,
            f"subject: {{flags: {{kind: http, url: 'http://127.0.0.1/f', b: 1}}, metric: {{{_METRIC}}}}}",
            "16 windows, 96 s",
        ),
        (8, _LIVE, "16 windows, 48 s"),
        (8, f"subject: {{metric: {{{_JSON_METRIC}}}}}", "16 windows, 96 s"),
    ],
)
def test_sentence_has_the_least_and_the_most_time(rounds: int | str, rest: str, text: str) -> None:
    plan = plan_of(rounds, experiment=_WINDOW, rest=rest)

    assert planned_time(plan).sentence() == f"{text} without changes of flags and checks"


@pytest.mark.parametrize(
    ("rest", "rounds"),
    [
        (f"subject: {{metric: {{{_JSON_METRIC}}}}}", 5),
        (_LIVE, 10),
    ],
)
def test_time_budget_fits_as_many_rounds_as_it_has_time_for(rest: str, rounds: int) -> None:
    plan = plan_of(20, experiment=_WINDOW, rest=f"{rest}\ntime_budget: 60")

    assert rounds_that_fit(plan) == rounds
    assert planned_time(plan).most_s == 60


def test_search_costs_the_windows_of_all_rounds_with_the_waits_for_the_metric() -> None:
    plan = plan_of(8, experiment=_WINDOW, rest=f"subject: {{metric: {{{_JSON_METRIC}}}}}")
    spec = SearchSpec(
        plan=plan,
        parameters={"experiment.conc_cap": Parameter(values=(4, 8))},
        screening=Screening(rounds=3),
        confirmations=2,
    )

    # Two candidates of 3 rounds and two confirmations of 8 rounds; a round takes 2 x (1 + 3 + 2) s.
    assert spec.greatest_cost_s() == (2 * 3 + 2 * 8) * 12
