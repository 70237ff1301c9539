"""Rollups: sums for each minute and hour, to which runs are added and from which they are subtracted."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.core.clock import LATEST_US
from relab.telemetry.outcome_models import RunOutcome
from relab.telemetry.overview import rollups
from relab.telemetry.overview.rollups import HOUR_US, MINUTE_US, NANO, OTHER_TOOLS, Changes, Contribution, Sums, window
from relab.telemetry.prices import PriceBook
from support.telemetry.runs import examples

TIMES = st.integers(0, 3 * HOUR_US) | st.integers(0, LATEST_US - 1)
TOOLS = st.sampled_from(["search", "lookup", "", "ü😀", "a.b", OTHER_TOOLS])
LATENCIES = st.sampled_from([0.0, 1e-9, 0.5, 1.0, 1.001, 350.0, 1e15]) | st.floats(0, 1e15)
COUNTS = st.integers(0, 10**6)
MODELS = st.tuples(
    st.sampled_from([None, "openai"]), st.sampled_from(["gpt-4o-mini", "x"]), COUNTS, COUNTS, COUNTS, COUNTS
)

contributions = st.builds(
    Contribution,
    TIMES,
    st.sampled_from(["success", "failure", "running", "cancelled"]),
    st.sampled_from(list(RunOutcome)),
    st.none() | st.floats(0, 1e12) | st.sampled_from([0.1, 0.2, 0.0245, 1e-12]),
    st.dictionaries(TOOLS, st.integers(0, 5).flatmap(lambda n: st.tuples(st.integers(n, 9), st.just(n))), max_size=4),
    st.lists(LATENCIES, max_size=5),
    st.lists(st.none() | st.integers(0, 10**6), min_size=5, max_size=5) | st.just([]),
    st.lists(MODELS, max_size=3),
)
EMPTY: dict[str, object] = {
    "runs": {}, "outcomes": {}, "failures": {}, "latencies": {}, "tokens": {}, "unpriced": {}
}  # fmt: skip
TABLE = PriceBook().table()


def changes_of(counted: Iterable[tuple[Contribution, int]]) -> Changes:
    changes = Changes()
    for run, sign in counted:
        changes.count(run, sign)
    return changes


def stored(changes: Changes) -> dict[tuple[int, int], dict[str, object]]:
    """Return the rows that the changes leave in an empty database."""
    dumps = {key: json.loads(json.dumps(sums.dump())) for key, sums in changes.by_bucket().items()}
    return {key: dump for key, dump in dumps.items() if dump != EMPTY}


@given(st.lists(contributions, max_size=6), st.data())
@examples(80)
def test_adding_and_subtracting_a_run_leaves_nothing(runs: list[Contribution], data: st.DataObject) -> None:
    counted = data.draw(st.permutations([(run, sign) for run in runs for sign in (1, -1)]))
    assert stored(changes_of(counted)) == {}


@given(st.lists(contributions, max_size=6), st.data())
@examples(80)
def test_order_of_runs_does_not_change_the_sums(runs: list[Contribution], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(runs))
    assert stored(changes_of((run, 1) for run in shuffled)) == stored(changes_of((run, 1) for run in runs))


@given(st.lists(contributions, min_size=1, max_size=6), st.integers(0, 6))
@examples(60)
def test_sums_of_several_transactions_add_up_to_those_of_one(runs: list[Contribution], cut: int) -> None:
    total = Sums()
    for part in (runs[:cut], runs[cut:]):
        for (span_us, _), sums in changes_of((run, 1) for run in part).by_bucket().items():
            if span_us == HOUR_US:
                total = Sums.read(json.loads(json.dumps(total.dump())))
                total.add(sums)
    expected = Sums()
    for run in runs:
        expected.count(run, 1)
    assert total.dump() == expected.dump()


@given(contributions)
@examples(60)
def test_a_run_counts_in_its_minute_and_in_its_hour(run: Contribution) -> None:
    changes = changes_of([(run, 1)])
    buckets = changes.by_bucket()
    assert set(buckets) == {
        (MINUTE_US, run.started_at // MINUTE_US * MINUTE_US),
        (HOUR_US, run.started_at // HOUR_US * HOUR_US),
    }
    for sums in buckets.values():
        assert sums.outcomes == {run.outcome: [1, run.cost_usd is None]}
        assert sums.runs == {run.status: [1, round((run.cost_usd or 0) * NANO)]}
        assert sums.failures == {tool: failed for tool, (_, failed) in run.tool_stats.items() if failed}
        assert sum(sums.latencies.values()) == len(run.latencies_ms)


def test_sums_of_two_runs_match_a_worked_example() -> None:
    run = Contribution(
        HOUR_US + 90_000_000, "failure", "failed", 0.1, {"search": [3, 2], "lookup": [1, 0]}, [0.0, 0.0, 5.0]
    )
    other = Contribution(HOUR_US + 30_000_000, "success", "completed_with_errors", None, {"search": [1, 1]}, [])
    hour = changes_of([(run, 1), (other, 1)]).by_bucket()[HOUR_US, HOUR_US]
    assert hour.runs == {"failure": [1, 100_000_000], "success": [1, 0]}
    assert hour.outcomes == {"failed": [1, 0], "completed_with_errors": [1, 1]}
    assert hour.failures == {"search": 3}
    assert sorted(hour.latencies.values()) == [1, 2]


def test_success_rate_counts_runs_with_a_known_outcome() -> None:
    sums = Sums()
    for outcome, cost in (("succeeded", 0.5), ("succeeded", None), ("completed_with_errors", 0.25), ("unknown", None)):
        sums.count(Contribution(0, "success", outcome, cost, {}, []), 1)
    overview = sums.overview(TABLE)

    assert overview.success_rate == 66.67
    assert overview.outcomes == {"succeeded": 2, "completed_with_errors": 1, "failed": 0, "unknown": 1}
    assert (overview.total_cost_usd, overview.runs_without_cost) == (0.75, 2)


def used(cost: float | None, *models: tuple[object, ...]) -> Contribution:
    sums = [100, None, None, 10, None]
    return Contribution(0, "success", "succeeded", cost, {}, [], sums, models)


def test_overview_of_runs_without_any_cost_has_no_cost() -> None:
    sums = Sums()
    sums.count(used(None), 1)
    overview = sums.overview(TABLE)

    assert overview.total_cost_usd is None
    assert overview.runs_without_cost == 1
    assert overview.estimated_cost_usd is None
    assert overview.prices_as_of is None
    assert overview.runs_without_estimate == 1


def test_overview_estimates_the_cost_of_runs_whose_models_all_have_a_price() -> None:
    sums = Sums()
    mini = ("openai", "gpt-4o-mini", 1_000_000, 0, 0, 1_000_000)
    unknown = ("openai", "scripted-1", 1_000_000, 0, 0, 0)
    for run in (used(None, mini), used(None, mini, unknown), used(None), used(2.5, mini)):
        sums.count(run, 1)
    overview = sums.overview(TABLE)

    assert overview.total_cost_usd == 2.5
    assert overview.runs_without_cost == 3
    assert overview.estimated_cost_usd == 0.75
    assert overview.prices_as_of == "2025-06-10"
    assert overview.runs_without_estimate == 2
    assert overview.tokens.prompt == 400
    assert overview.tokens.cached is None
    assert overview.tokens.completion == 40


def test_sets_of_models_are_bounded_for_any_client_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "MAX_MODEL_GROUPS", 3)
    row: dict[str, object] = {}
    for number in range(10):
        row = apply(row, used(None, ("p", f"model-{number}", 1, 0, 0, 1)), 1)

    assert len(Sums.read(row).unpriced) == 3
    assert Sums.read(row).overview(TABLE).runs_without_estimate == 10


def failing(*tools: str) -> Contribution:
    return Contribution(0, "failure", "failed", None, dict.fromkeys(tools, (1, 1)), [])


def apply(row: dict[str, object], run: Contribution, sign: int) -> dict[str, object]:
    """Return the row after one transaction adds (`sign` 1) or subtracts (-1) a run, as in `rollup_repository.apply`."""
    sums = Sums.read(row)
    sums.add(changes_of([(run, sign)]).by_bucket()[MINUTE_US, 0], most_tools=rollups.MAX_TOOLS)
    return json.loads(json.dumps(sums.dump()))  # type: ignore[no-any-return]


def failures(row: dict[str, object]) -> dict[str, int]:
    return Sums.read(row).failures


def test_rows_are_bounded_for_any_client_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "MAX_TOOLS", 3)
    row: dict[str, object] = {}
    for number in range(20):
        row = apply(row, failing(f"tool-{number}"), 1)
    assert len(failures(row)) <= 4
    assert sum(failures(row).values()) == 20


@pytest.mark.parametrize("signs", [(-1,), (1, -1)])
def test_row_of_subtracted_runs_is_bounded_too(monkeypatch: pytest.MonkeyPatch, signs: tuple[int, ...]) -> None:
    monkeypatch.setattr(rollups, "MAX_TOOLS", 3)
    row: dict[str, object] = {}
    for number in range(20):
        row = apply(row, failing(f"tool-{number}"), signs[number % len(signs)])
    assert len(failures(row)) <= 4
    assert sum(failures(row).values()) == sum(signs[number % len(signs)] for number in range(20))


def test_number_of_runs_without_an_estimate_is_not_negative_if_another_process_subtracted_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rollups, "MAX_MODEL_GROUPS", 1)
    priced = used(None, ("openai", "gpt-4o-mini", 1_000_000, 0, 0, 0))
    added = apply({}, priced, 1)
    subtracted = apply(apply({}, used(None, ("p", "other", 1, 0, 0, 0)), -1), priced, -1)
    overview = read_all([added, subtracted]).overview(TABLE)
    assert overview.runs_without_estimate >= 0


def test_estimate_is_never_negative_if_a_run_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "MAX_MODEL_GROUPS", 1)
    other = used(None, ("p", "other", 1, 0, 0, 1))
    large, small = (used(None, ("openai", "gpt-4o-mini", tokens, 0, 0, tokens)) for tokens in (1_000_000, 10))
    row: dict[str, object] = {}
    for run, sign in ((other, 1), (large, 1), (other, -1), (small, 1), (small, 1), (large, -1)):
        row = apply(row, run, sign)
    overview = Sums.read(row).overview(TABLE)
    assert overview.estimated_cost_usd is None
    assert overview.runs_without_estimate == 2


tool_names = st.sampled_from([f"tool-{number}" for number in range(6)])


@given(st.lists(tool_names, min_size=1, max_size=10), st.data())
@examples(100)
def test_adding_and_subtracting_too_many_tools_leaves_nothing(tools: list[str], data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollups, "MAX_TOOLS", 3)
        row: dict[str, object] = {}
        for tool in tools:
            row = apply(row, failing(tool), 1)
        for tool in data.draw(st.permutations(tools)):
            row = apply(row, failing(tool), -1)
            assert all(count > 0 for count in failures(row).values()), row
    assert row == EMPTY


def read_all(rows: Sequence[dict[str, object]]) -> Sums:
    total = Sums()
    for row in rows:
        total.add(Sums.read(row))
    return total


def test_worst_tool_is_found_in_any_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "MAX_TOOLS", 3)
    rows: list[dict[str, object]] = [{"failures": {f"tool-{n}": 1, f"other-{n}": 1}} for n in range(3)]
    worst: dict[str, object] = {"failures": {"worst": 100}}
    for order in ([worst, *rows], [*rows, worst]):
        assert read_all(order).failures.get("worst") == 100


def covered(ranges: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Return the ranges that are not empty as `(first, end)`, in order."""
    return sorted((first, end) for _, first, end in ranges if first < end)


@given(TIMES, st.integers(0, 10 * HOUR_US) | st.integers(0, LATEST_US))
@examples(200)
def test_a_window_covers_exactly_its_minutes_each_once(since: int, length: int) -> None:
    until = since + length
    ranges = window(since, until)
    pieces = covered(ranges)
    assert pieces[0][0] == since // MINUTE_US * MINUTE_US
    assert pieces[-1][1] == (until // MINUTE_US + 1) * MINUTE_US
    assert all(end == first for (_, end), (first, _) in itertools.pairwise(pieces))
    for span_us, first, end in ranges:
        assert first % span_us == end % span_us == 0


@given(TIMES, st.integers(0, 10 * HOUR_US) | st.integers(0, LATEST_US))
@examples(200)
def test_a_window_reads_few_buckets(since: int, length: int) -> None:
    ranges = window(since, since + length)
    counts = {
        unit: sum((end - first) // span_us for span_us, first, end in ranges if span_us == unit)
        for unit in (MINUTE_US, HOUR_US)
    }
    assert counts[MINUTE_US] < 120
    assert counts[HOUR_US] <= math.ceil(length / HOUR_US)


@given(TIMES, TIMES, st.integers(0, 10 * HOUR_US))
@examples(200)
def test_a_run_is_in_a_window_by_the_minute_of_its_start(started_at: int, since: int, length: int) -> None:
    until = since + length
    found = sum(
        started_at // span_us * span_us in range(first, end, span_us) for span_us, first, end in window(since, until)
    )
    is_within = since // MINUTE_US <= started_at // MINUTE_US <= until // MINUTE_US
    assert found == is_within
