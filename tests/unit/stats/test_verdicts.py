"""Gates: their text form, the verdicts they give to intervals, and how often they pass by chance."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial

from relab.stats.intervals import Interval
from relab.stats.paired import Clusters, cluster, interval_of
from relab.stats.verdicts import Gate, Judgement, Verdict, false_pass_rate, worst
from support.telemetry.runs import examples

ENDS = st.sampled_from([-math.inf, -2.0, -1.0, 0.0, 0.5, 1.0, 3.0, math.inf])
NAMES = st.text(st.characters(categories=["L", "N", "P"], exclude_characters="<>="), min_size=1, max_size=40)
NOT_WORSE = Gate("success", at_least=True, threshold=-0.02)


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("success>=-0.02", Gate("success", True, -0.02)),
        ("latency_ms<=5%", Gate("latency_ms", False, 0.05, is_relative=True)),
        ("  cost_usd <= +1.5e-3 ", Gate("cost_usd", False, 0.0015)),
        ("score>=.5", Gate("score", True, 0.5)),
        ("score>=5.", Gate("score", True, 5.0)),
        ("latency_ms <= -10 %\n", Gate("latency_ms", False, -0.1, is_relative=True)),
        ("pass@1>=0", Gate("pass@1", True, 0.0)),
        ("a/b.c-d: tokens in>=0", Gate("a/b.c-d: tokens in", True, 0.0)),
        ("größe<=0", Gate("größe", False, 0.0)),
    ],
)
def test_text_of_a_gate_is_parsed(text: str, gate: Gate) -> None:
    assert Gate.parse(text) == gate


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ">=0.1",
        " >=0.1",
        "success",
        "success>=",
        "success>=%",
        "success>0",
        "success<0",
        "success=0",
        "success==0",
        "success=>0",
        "success>= =0",
        "success>=0>=1",
        "success<=>=1",
        "success>=0;latency<=1",
        "success>=0.1.2",
        "success>=1,5",
        "success>=1_000",
        "success>=0x10",
        "success>=--1",
        "success>=5%%",
        "success>=%5",
        "success>=1e",
        "success>=.",
        "success>=nan",
        "success>=inf",
        "success>=-Infinity%",
        "success>=1e999",
        "success>=1e999%",
        "success>=\u0663",  # a digit that is not ASCII
        "success>=\u22120.02",  # a typographic minus sign
        "success\u2265-0.02",
        "suc\x00cess>=0",
        "suc\x1b[31mcess>=0",
        "suc\ncess>=0",
        "\u202esuccess>=0",  # reverses the direction of writing
        "\ud800>=0",
        "success>=" + "1" * 5_000,
        "success>=" + "1" * 100_000 + "x",
        "a" * 100_000,
        ">=" * 50_000,
        " " * 100_000 + "x",
        "__import__('os')",
    ],
    ids=lambda text: ascii(text[:24]),
)
def test_invalid_gate_is_rejected_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"success>=-0\.02") as caught:
        Gate.parse(text)
    message = str(caught.value)
    assert repr(text)[:20] in message
    assert message.isprintable()
    assert len(message) < 2_000


@given(text=st.text(st.sampled_from("a9 .<>=%+-eE\u0663\n_"), max_size=20))
@examples(200)
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    try:
        gate = Gate.parse(text)
    except ValueError:
        return
    assert gate.metric == gate.metric.strip() != ""
    assert math.isfinite(gate.threshold)
    assert Gate.parse(str(gate)).threshold == pytest.approx(gate.threshold, rel=1e-11)


@given(
    metric=NAMES,
    at_least=st.booleans(),
    hundredths=st.integers(-(10**9), 10**9),
    is_relative=st.booleans(),
)
@examples(100)
def test_parsed_text_of_a_gate_equals_the_gate(metric: str, at_least: bool, hundredths: int, is_relative: bool) -> None:
    gate = Gate(metric, at_least, hundredths / 100 / (100 if is_relative else 1), is_relative)
    found = Gate.parse(str(gate))

    assert found.metric == metric
    assert found.at_least == at_least
    assert found.is_relative == is_relative
    assert found.threshold == pytest.approx(gate.threshold, rel=1e-11)


def test_gate_is_written_without_rounding_errors_of_its_percentage() -> None:
    # 0.07 * 100 is 7.000000000000001.
    assert str(Gate.parse("latency_ms<=7%")) == "latency_ms<=7%"
    assert str(Gate.parse("success>=-0.0123456789")) == "success>=-0.0123456789"


# --- verdicts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.01, 0.03, Verdict.PASS),
        (-0.02, 0.03, Verdict.PASS),
        (-0.021, 0.03, Verdict.EDGE),
        (-0.05, -0.02, Verdict.EDGE),
        (-0.05, -0.021, Verdict.FAIL),
        (-math.inf, math.inf, Verdict.EDGE),
        (-math.inf, -0.03, Verdict.FAIL),
        (math.nan, 0.03, Verdict.INVALID),
        (-0.01, math.nan, Verdict.INVALID),
    ],
)
def test_verdict_depends_on_the_side_of_the_whole_interval(low: float, high: float, verdict: Verdict) -> None:
    assert NOT_WORSE.judge(_interval(low, high)) is verdict
    # The mirror image, for a metric whose lower values are better.
    assert Gate("errors", False, 0.02).judge(_interval(-high, -low)) is verdict


def test_given_threshold_replaces_that_of_the_gate() -> None:
    gate = Gate.parse("latency_ms<=5%")

    assert gate.judge(_interval(-3.0, -1.0), 0.0) is Verdict.PASS
    assert gate.judge(_interval(1.0, 3.0), 0.0) is Verdict.FAIL
    assert gate.judge(_interval(1.0, 3.0), math.nan) is Verdict.INVALID


@given(ends=st.tuples(ENDS, ENDS).map(sorted), threshold=st.sampled_from([-1.0, 0.0, 0.7, 1.0]), at_least=st.booleans())
@examples(100)
def test_stricter_gate_never_gives_a_better_verdict(ends: list[float], threshold: float, at_least: bool) -> None:
    order = [Verdict.FAIL, Verdict.EDGE, Verdict.PASS]
    stricter = threshold + (0.5 if at_least else -0.5)
    found = Gate("m", at_least, threshold).judge(_interval(*ends))

    assert order.index(Gate("m", at_least, stricter).judge(_interval(*ends))) <= order.index(found)


def test_judgement_has_no_figures_by_default() -> None:
    found = Judgement(Verdict.INVALID, "no trial has a figure")

    assert found.estimate is None
    assert found.interval is None
    assert found.windows == 0
    assert found.minimum_detectable_effect is None
    assert found.false_pass_rate is None


def test_worst_verdict_is_the_joint_verdict() -> None:
    order = [Verdict.PASS, Verdict.EDGE, Verdict.INVALID, Verdict.FAIL]
    for one, other in product(order, repeat=2):
        assert worst([one, other]) is order[max(order.index(one), order.index(other))]
    with pytest.raises(ValueError, match="gate"):
        worst([])


# --- passes by chance ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [8, 40, 400])
def test_true_difference_on_the_threshold_rarely_passes(count: int) -> None:
    random = np.random.default_rng(count)
    deltas = random.choice([-1.0, 0.0, 1.0], p=[0.15, 0.7, 0.15], size=count).tolist()
    found = false_pass_rate(cluster(deltas), NOT_WORSE, -0.02, bounds=(-1, 1))

    assert found is not None
    # The nominal rate is 2.5 %; 200 runs estimate it to within 1.1 points.
    assert found <= 0.05


# The true difference lies on the threshold. With one replication the data are counts of tasks lost and gained, so the
# probability of a pass is an exact sum and needs no simulation.
@pytest.mark.parametrize(
    ("lost", "gained", "count"), [(0.02, 0.0, 200), (0.05, 0.0, 100), (0.1, 0.0, 60), (0.06, 0.04, 60)]
)
def test_counted_outcomes_of_a_true_difference_on_the_threshold_rarely_pass(
    lost: float, gained: float, count: int
) -> None:
    # Ends lie on multiples of 1 / count; the tolerance keeps rounding from failing an end on the threshold.
    gate = Gate("success", at_least=True, threshold=gained - lost - 1e-12)
    chance = 0.0
    for losses, gains in product(range(count + 1), range(count + 1 if gained else 1)):
        ties = count - losses - gains
        if ties < 0 or (gains - losses) / count < gate.threshold:
            continue
        weight = float(multinomial.pmf([losses, gains, ties], count, [lost, gained, 1 - lost - gained]))
        # Outcomes too rare to compute an interval for count as passes.
        if weight < 1e-5:
            chance += weight
            continue
        clusters = Clusters(np.repeat([-1.0, 1.0, 0.0], [losses, gains, ties]), np.ones(count))
        chance += weight * (gate.judge(interval_of(clusters, bounds=(-1, 1))) is Verdict.PASS)

    assert 0.01 < chance <= 0.05


def test_harmless_variant_passes_with_enough_tasks() -> None:
    random = np.random.default_rng(1)
    deltas = random.choice([-1.0, 0.0, 1.0], p=[0.02, 0.96, 0.02], size=2_000)

    assert NOT_WORSE.judge(interval_of(Clusters(deltas, np.ones(2_000)), bounds=(-1, 1))) is Verdict.PASS


def test_false_pass_rate_depends_on_the_shape_of_the_data_and_not_on_their_mean() -> None:
    values = np.random.default_rng(3).lognormal(0, 0.5, 30)
    gate = Gate("latency_ms", False, 0.0)
    here = false_pass_rate(cluster(values.tolist()), gate, 0.0, runs=60, resamples=199)
    there = false_pass_rate(cluster((values + 1_000).tolist()), gate, 5.0, runs=60, resamples=199)

    assert here == there


def test_sample_that_is_too_small_to_pass_never_passes_by_chance() -> None:
    # Student's interval of two differences is wider than their range, so no sample lies wholly above its true mean.
    clusters = cluster([-1.0, 1.0])

    assert false_pass_rate(clusters, Gate("m", True, 0.0), 0.0, runs=20, resamples=99) == 0.0


def test_lower_and_upper_gates_are_mirror_images() -> None:
    values = np.random.default_rng(3).lognormal(0, 1, 12)
    above = false_pass_rate(cluster(values.tolist()), Gate("m", True, 1.0), 1.0, runs=60, resamples=199)
    below = false_pass_rate(cluster((-values).tolist()), Gate("m", False, -1.0), -1.0, runs=60, resamples=199)

    assert above == below


def test_negative_seed_is_valid() -> None:
    clusters = cluster([1.0, 2.0, 4.0, 9.0])
    found = [false_pass_rate(clusters, NOT_WORSE, 0.0, runs=20, resamples=99, seed=-7) for _ in range(2)]

    assert found[0] is not None
    assert found[0] == found[1]


@pytest.mark.parametrize("deltas", [[1.0], [0.0] * 9, [0.3, 0.1 + 0.2, 0.3], [0.0, 1e-17, 0.0]])
def test_constant_data_have_no_false_pass_rate(deltas: list[float]) -> None:
    assert false_pass_rate(cluster(deltas), NOT_WORSE, -0.02, bounds=(-1, 1)) is None


@pytest.mark.parametrize(("threshold", "runs"), [(math.nan, 10), (math.inf, 10), (0.0, 0)])
def test_invalid_threshold_or_count_is_rejected(threshold: float, runs: int) -> None:
    with pytest.raises(ValueError, match="threshold"):
        false_pass_rate(cluster([1.0, 2.0]), NOT_WORSE, threshold, runs=runs)


def _interval(low: float, high: float) -> Interval:
    return Interval(low, high, 0.95, "made up")
