"""Plan files: which are accepted, which are rejected with line and field, and the windows and flags of a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.flags.models import ControlFlags, RoutingFlags, ServiceFlags
from relab.rollouts.errors import PlanInvalidError, SubjectError
from relab.rollouts.models import Arm, DecisionPolicy
from relab.rollouts.plans.models import EarlyStop, Plan, WindowOrder
from relab.rollouts.plans.reading import default_plan, parse_plan, read_plan, starter_text
from relab.rollouts.plans.schedule import flags_of, rounds_that_fit, window_cost_s, windows_of

LABOPS_PLAN = """\
base_url: http://localhost:8011
timeout: 30
experiment:
  qps: 10.0
  window_sec: 120
  rounds: 2
  seed: 42
  flow_policy: "aimd"
  target_p95: 1200
  conc_cap: 32
  batch_cap: 32
  routing_mode: "rules"
  topk_threshold: 32
thresholds:
  pass_delta_p95_max: -10.0
  edge_delta_p95_max: -5.0
  max_error_rate: 1.0
  ab_balance_warn: 5.0
time_budget: 0
per_combo_cap: 0
early_stop: true
report:
  max_lines: 60
  output_path: reports/LABOPS_AGENT_SUMMARY.txt
  history_path: agents/labops/state/history.jsonl
"""

OFF = ServiceFlags(
    control=ControlFlags(enabled_actuators=()), routing=RoutingFlags(enabled=False, manual_backend="qdrant")
)


def problems(text: str) -> tuple[tuple[str, str], ...]:
    with pytest.raises(PlanInvalidError) as caught:
        parse_plan(text, "plan.yaml")
    return caught.value.problems


def test_labops_plan_is_accepted_as_it_is() -> None:
    plan = parse_plan(LABOPS_PLAN, "plan.yaml")

    assert plan.experiment.rounds == 2
    assert plan.experiment.first_rounds == 2
    assert plan.thresholds.pass_delta_p95_max == -10
    assert plan.early_stop == EarlyStop()
    assert plan.policy is DecisionPolicy.STATISTICAL


def test_starter_file_shows_the_defaults() -> None:
    assert parse_plan(starter_text(), "plan.yaml") == Plan()


def test_default_plan_chooses_its_rounds_between_8_and_32() -> None:
    measured = default_plan().experiment

    assert measured.rounds == "auto"
    assert measured.first_rounds == 8
    assert measured.max_rounds == 32


def test_a_plan_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("experiment: {rounds: 9}\n")

    assert read_plan(file).experiment.rounds == 9


def test_missing_plan_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanInvalidError, match="lab rollout init"):
        read_plan(tmp_path / "absent.yaml")


def test_all_problems_are_reported_with_line_and_field() -> None:
    found = dict(problems("experiment:\n  qps: -1\n  windw_sec: 3\nthresholds:\n  max_error_rate: 0\n"))

    assert "greater than 0" in found["plan.yaml:2: experiment.qps"]
    assert "did you mean 'window_sec'?" in found["plan.yaml:3: experiment.windw_sec"]
    assert "greater than 0" in found["plan.yaml:5: thresholds.max_error_rate"]


def test_problems_below_a_subject_are_reported_at_their_line_with_the_nearest_name() -> None:
    flags = "  flags:\n    kind: http\n    url: http://h/x\n    b: 1\n    ponter: /a\n"
    metric = "  metric:\n    kind: prometheus\n    url: http://h\n    qurey: up\n"

    found = dict(problems(f"subject:\n{flags}{metric}"))

    assert "did you mean 'pointer'?" in found["plan.yaml:6: subject.flags.ponter"]
    assert "did you mean 'query'?" in found["plan.yaml:10: subject.metric.qurey"]
    assert "REQUIRED" in found["plan.yaml:7: subject.metric.query"]


def test_rule_of_one_kind_of_flags_is_reported_at_the_flags() -> None:
    found = dict(problems("subject:\n  flags: {kind: product_flag, key: a, a: on, b: on}\n"))

    assert "variants of both arms are the same" in found["plan.yaml:2: subject.flags"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("- 1\n", "mapping"),
        ("experiment: {rounds: 0}\n", "`auto` or a whole number"),
        ("experiment: {rounds: true}\n", "`auto` or a whole number"),
        ("experiment: {min_rounds: 9, max_rounds: 8}\n", "must not exceed max_rounds"),
        ("experiment: {factorial: true, routing_mode: keep}\n", "neither can be `keep`"),
        ("experiment: {detect_delta_p95: -9}\n", "must lie below thresholds.pass_delta_p95_max"),
        ("experiment: {qps: .inf}\n", "experiment.qps"),
        ('experiment: {qps: "10"}\n', "experiment.qps"),
        ("thresholds: {edge_delta_p95_max: -11}\n", "must not be smaller than pass_delta_p95_max"),
        ("thresholds: {max_error_rate: 101}\n", "thresholds.max_error_rate"),
        ("early_stop: 3\n", "true, false or a section"),
        ("early_stop: {alpha: 0}\n", "early_stop.alpha"),
        ("canary: {steps: [50, 10, 100]}\n", "must ascend and end at 100"),
        ("canary: {steps: [10, 50]}\n", "must ascend and end at 100"),
        ("canary: {steps: [0.004, 100]}\n", "must rise by at least 0.01"),
        ("canary: {steps: [1, 1.001, 100]}\n", "must rise by at least 0.01"),
        ("canary: {steps: [99.999, 100]}\n", "must rise by at least 0.01"),
        ("base_url: ftp://host\n", "must be http://"),
        ("base_url: http://user:secret@host\n", "without a user name"),
        ("policy: lenient\n", "policy"),
        ("report: {max_lines: 5}\n", "report.max_lines"),
        ('base_url: "http://host/a\\n\\nROLLBACK\\ncurl http://other"\n', "base_url: must have visible ASCII"),
        ('base_url: "http://ho\\nst"\n', "base_url: must have visible ASCII"),
        ('base_url: "http://host/\\e[2J"\n', "base_url: must have visible ASCII"),
        ('subject: {flags: {kind: service, write_path: "/a\\nROLLBACK"}}\n', "write_path: must have visible ASCII"),
        ('subject: {flags: {kind: http, url: "http://host/\\na", b: 1}}\n', "url: must have visible ASCII"),
        ('subject: {health: {url: "http://host/ a"}}\n', "health.url: must have visible ASCII"),
        ('subject: {flags: {kind: service, headers: {X: "a\\nROLLBACK"}}}\n', "headers.X"),
        ('subject: {flags: {kind: service, headers: {"X\\n": "a"}}}\n', "headers"),
    ],
)
def test_invalid_plan_is_rejected_with_the_problem(text: str, part: str) -> None:
    with pytest.raises(PlanInvalidError, match=part.replace("(", r"\(").replace("?", r"\?")):
        parse_plan(text, "plan.yaml")


@pytest.mark.parametrize(("threshold", "looked_for"), [(-10, -20), (0, -10), (-30, -60), (-60, -80)])
def test_planned_effect_lies_beyond_the_pass_threshold(threshold: float, looked_for: float) -> None:
    plan = parse_plan(f"thresholds: {{pass_delta_p95_max: {threshold}, edge_delta_p95_max: 0}}", "plan.yaml")

    assert plan.detected_pct == looked_for


def arms(plan: Plan, rounds: int, rollout_id: str = "rollout-1") -> str:
    return "".join(window.arm for window in windows_of(plan, rounds, rollout_id))


@pytest.mark.parametrize("rollout_id", ["rollout-1", "rollout-2"])
def test_windows_follow_the_order_of_the_plan(rollout_id: str) -> None:
    orders = {order: parse_plan(f"experiment: {{order: {order}}}", "plan.yaml") for order in ("abab", "abba")}

    assert arms(orders["abab"], 3, rollout_id) == "ABABAB"
    assert arms(orders["abba"], 3, rollout_id) == "ABBAAB"


def test_random_order_depends_on_the_seed_and_the_rollout() -> None:
    plan = Plan()
    other_seed = parse_plan("experiment: {seed: 43}", "plan.yaml")

    assert plan.experiment.order is WindowOrder.RANDOM
    assert arms(plan, 20, "rollout-1") == arms(plan, 20, "rollout-1")
    assert arms(plan, 20, "rollout-1") != arms(plan, 20, "rollout-2")
    assert arms(plan, 20, "rollout-1") != arms(other_seed, 20, "rollout-1")


def test_more_rounds_do_not_change_the_order_of_earlier_rounds() -> None:
    assert arms(Plan(), 20)[:16] == arms(Plan(), 8)
    assert {arms(Plan(), number)[-2:] for number in range(1, 20)} == {"AB", "BA"}


def test_each_round_of_a_factorial_plan_has_all_four_arms() -> None:
    plan = parse_plan("experiment: {factorial: true, order: abba}", "plan.yaml")

    assert arms(plan, 2) == "ABCDDCBA"


def test_budget_and_cap_limit_the_rounds() -> None:
    plan = parse_plan("experiment: {window_sec: 8, warmup_sec: 2}\ntime_budget: 100\nper_combo_cap: 45", "plan.yaml")

    assert window_cost_s(plan) == 10
    assert rounds_that_fit(plan) == 4
    assert rounds_that_fit(plan.model_copy(update={"per_combo_cap": 0})) == 5
    assert rounds_that_fit(Plan()) == 1_000


def test_arms_set_the_same_fields_and_differ_in_the_changed_sections() -> None:
    documents = {arm: flags_of(Plan(), arm, OFF.model_dump(mode="json")) for arm in Arm}

    assert documents[Arm.B] == {
        "control": {
            "policy": "aimd",
            "target_p95_ms": 1200,
            "max_concurrency": 32,
            "max_batch_size": 32,
            "enabled_actuators": ["concurrency", "batch_size"],
        },
        "routing": {"enabled": True, "policy": "rules", "topk_threshold": 32},
    }
    assert documents[Arm.A]["control"]["enabled_actuators"] == []
    assert documents[Arm.A]["routing"]["enabled"] is False
    assert documents[Arm.C] == {"control": documents[Arm.B]["control"], "routing": documents[Arm.A]["routing"]}
    assert documents[Arm.D] == {"control": documents[Arm.A]["control"], "routing": documents[Arm.B]["routing"]}
    assert all(doc["control"].keys() == documents[Arm.A]["control"].keys() for doc in documents.values())


def test_flags_of_each_arm_are_accepted_by_a_service() -> None:
    for policy in ("aimd", "fixed", "off"):
        for mode in ("rules", "faiss", "qdrant"):
            plan = parse_plan(f"experiment: {{flow_policy: {policy}, routing_mode: {mode}}}", "plan.yaml")
            before = OFF.model_dump(mode="json")
            there = OFF.updated(flags_of(plan, Arm.B, before))
            assert there.updated(flags_of(plan, Arm.A, before)) == OFF.updated(flags_of(plan, Arm.A, before))


def test_a_section_to_keep_is_not_written() -> None:
    plan = parse_plan("experiment: {routing_mode: keep, flow_policy: off}", "plan.yaml")

    assert flags_of(plan, Arm.B, OFF.model_dump(mode="json")) == {"control": {"enabled_actuators": []}}


def test_arm_a_has_the_values_of_the_service_also_if_relab_does_not_know_them() -> None:
    before = OFF.model_dump(mode="json")
    before["control"] |= {"policy": "pid", "gain": 0.3}

    found = flags_of(Plan(), Arm.A, before)

    assert found["control"]["policy"] == "pid"
    assert "gain" not in found["control"]


def test_field_that_the_service_does_not_return_is_named_with_its_remedy() -> None:
    before = {"control": {"policy": "aimd", "max_concurrency": 8}, "routing": {}}

    with pytest.raises(SubjectError) as caught:
        flags_of(Plan(), Arm.B, before)

    assert "no control.target_p95_ms, control.max_batch_size, control.enabled_actuators" in str(caught.value)
    assert "experiment.flow_policy: keep" in str(caught.value)
