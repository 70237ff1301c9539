"""The texts of a rollout's report: their sections, their length limits, and that no figure is invented."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relab.rollouts.judging import effects_by_round, judge
from relab.rollouts.models import Arm, RouteFigures
from relab.rollouts.plans.models import Plan
from relab.rollouts.record import Application, RolloutPhase, RolloutRecord, RolloutStatus
from relab.rollouts.reports import (
    check_writable,
    mini_json,
    mini_text,
    render_page,
    summary_text,
    verify_history,
    write_reports,
)
from relab.rollouts.reports.history import read_history
from relab.rollouts.reports.page_charts import interval_chart, windows_chart
from unit.rollouts.rollout_records import ROLLBACK, record_of
from unit.rollouts.rollout_windows import START_US, altered, plan_of, rollout

SECTIONS = ("INPUTS", "RESULTS", "VERDICT", "NEXT STEP", "APPLY COMMAND", "ROLLBACK")
NO_LIBRARIES = "/* no charts */"


def with_many_routes(plan: Plan) -> list:
    routes = tuple(RouteFigures(name=f"route-{place}", completed=9, bad=0, p95_ms=5.0 + place) for place in range(60))
    windows = rollout(plan, 8, -30)
    return altered(altered(windows, Arm.A, routes=routes), Arm.B, routes=routes)


def test_summary_has_the_sections_and_figures_of_labops() -> None:
    lines = summary_text(record_of()).splitlines()

    assert [line for line in lines if line in SECTIONS] == list(SECTIONS)
    assert "- QPS: 10, Window: 120s, Rounds: 8" in lines
    assert "- Flow: aimd, Target P95: 1200ms" in lines
    assert "- Routing: rules, TopK Threshold: 32" in lines
    assert any(re.match(r"- ΔP95: -\d+\.\d% \(99% interval -", line) for line in lines)
    assert "- ΔQPS: 0.0%" in lines
    assert any(line.startswith("- Error Rate: 0.00%") for line in lines)
    assert "- AB Imbalance: 0.0%" in lines
    assert "- Decision: PASS" in lines
    assert "- Flags Applied: YES" in lines
    assert "- Monitor metrics for 24h" in lines


def test_summary_ends_with_the_whole_rollback_command() -> None:
    assert summary_text(record_of()).endswith(f"ROLLBACK\n{ROLLBACK}\n")


def test_early_stop_is_shown_in_results() -> None:
    plan = plan_of(8, rest="early_stop: true")

    windows = rollout(plan, 7, -60)
    stopped = judge(windows, plan, stopped_early=True)

    early = summary_text(record_of(plan=plan, windows=windows, judgement=stopped))
    late = summary_text(record_of(plan=plan))

    assert "- Early stop: After 7 rounds ΔP95 is at most -" in early.partition("VERDICT")[0]
    assert "- Early stop: No early look ended the measurement." in late.partition("VERDICT")[0]


@pytest.mark.parametrize("limit", [30, 40, 60])
def test_long_results_are_shortened_and_rollback_stays(limit: int) -> None:
    plan = plan_of(8, rest=f"report: {{max_lines: {limit}}}")

    text = summary_text(record_of(plan=plan, windows=with_many_routes(plan)))

    assert len(text.splitlines()) <= limit
    assert "lines left out: lab rollout show rollout-1" in text
    assert "- Decision: PASS" in text
    assert "- AB Imbalance" in text
    assert text.endswith(f"ROLLBACK\n{ROLLBACK}\n")


def test_rollback_longer_than_the_limit_is_not_cut() -> None:
    long = "\n".join(f"line {number}" for number in range(100))

    assert summary_text(record_of(rollback_command=long)).endswith(f"ROLLBACK\n{long}\n")


@settings(max_examples=25)
@given(st.text(max_size=400), st.integers(30, 80), st.integers(1, 12))
def test_texts_from_outside_never_break_the_summary(text: str, limit: int, lines: int) -> None:
    plan = plan_of(8, rest=f"report: {{max_lines: {limit}}}")
    record = record_of(plan=plan).model_copy(
        update={"error": text, "rollback_command": "\n".join(["curl"] * lines), "target": "shop"}
    )

    found = summary_text(record).split("\n")

    # Besides ROLLBACK, 27 lines are kept: titles, the key figures and the verdict.
    assert len(found) - 1 <= max(limit, 27 + lines)
    assert [line for line in found if line in SECTIONS] == list(SECTIONS)


def test_files_have_no_control_characters_from_answers_of_the_target(tmp_path: Path) -> None:
    record = record_of(error="Unhealthy: \x1b[31mredis\u202e.")

    paths = write_reports(record, tmp_path)

    for path in (paths.summary, paths.mini_text):
        assert r"Unhealthy: \x1b[31mredis\u202e." in path.read_text(encoding="utf-8")
    text = paths.mini_json.read_text(encoding="utf-8")
    assert r"\u001b[31mredis\u202e." in text
    assert json.loads(text)["message"].endswith("Unhealthy: \x1b[31mredis\u202e.")


def test_name_of_a_target_with_line_ends_forges_no_section() -> None:
    hostile = "http://host\n\nROLLBACK\ncurl http://other"

    lines = summary_text(record_of(target=hostile)).splitlines()

    assert [line for line in lines if line in SECTIONS] == list(SECTIONS)


@pytest.mark.parametrize(
    ("change", "decision", "step"),
    [(-7, "EDGE", "lab rollout apply rollout-1"), (0, "FAIL", "Keep the old flags")],
)
def test_other_verdicts_are_not_applied_and_give_the_next_step(change: float, decision: str, step: str) -> None:
    text = summary_text(record_of(change))

    assert f"- Decision: {decision}" in text
    assert "- Flags Applied: NO" in text
    assert "- Flags restored: YES" in text
    assert step in text.partition("NEXT STEP")[2]


def advice(record: RolloutRecord) -> str:
    text = summary_text(record)
    return text[text.index("NEXT STEP") : text.index("APPLY COMMAND")]


def decided(by: str, *, applied: bool, message: str) -> Application:
    return Application(applied=applied, message=message, at=START_US, by=by)


@pytest.mark.parametrize("change", [-30, -7, 0])
def test_flags_that_were_not_restored_are_the_next_step_for_every_verdict(change: float) -> None:
    record = record_of(change, flags_restored=False, application=None)

    assert "Compare the flags with those under ROLLBACK" in advice(record)
    assert "lab rollout apply" not in advice(record)
    assert "Keep the old flags" not in advice(record)
    assert "- Flags restored: NO (see NEXT STEP)" in summary_text(record)
    page = render_page(record, NO_LIBRARIES)
    assert "<strong>The flags do not have their values from before the rollout.</strong>" in page


def test_edge_applied_by_a_person_is_reported_as_in_force() -> None:
    record = record_of(-7, application=decided("ada", applied=True, message="Applied by ada; read back."))

    text = summary_text(record)

    assert "- Flags Applied: YES" in text
    assert "- Applied by ada; read back." in text
    assert "never applied" not in text
    assert "Flags restored" not in text
    assert "Monitor metrics for 24h" in advice(record)
    assert "lab rollout apply" not in advice(record)
    assert "The new flags are in force. Applied by ada; read back." in render_page(record, NO_LIBRARIES)


@pytest.mark.parametrize(
    ("by", "message"),
    [("rollout", "The canary was rolled back at 10 %: errors"), ("ada", "Rolled back by ada; read back.")],
)
def test_change_that_was_rolled_back_is_not_recommended_at_once(by: str, message: str) -> None:
    record = record_of(application=decided(by, applied=False, message=message), flags_restored=True)

    assert f"- {message}" in summary_text(record)
    assert "Find out why the new flags are not in force" in advice(record)
    assert "Apply the flags" not in advice(record)
    page = render_page(record, NO_LIBRARIES)
    assert f"The flags have their values from before the rollout. {message}" in page


def test_running_rollout_advises_to_wait() -> None:
    record = record_of(windows=[], judgement=None, application=None, status=RolloutStatus.RUNNING, flags_restored=None)

    assert "Wait until the rollout is over: lab rollout show rollout-1" in advice(record)


def test_blocked_rollout_has_no_figures() -> None:
    record = record_of(
        windows=[], judgement=None, status=RolloutStatus.FAILED, phase=RolloutPhase.HEALTH, error="redis is down"
    )

    text = summary_text(record)

    assert "- ΔP95: n/a" in text
    assert "- Decision: NONE (failed)" in text
    assert "- Reason: redis is down" in text


def test_mini_text_has_the_lines_that_parsers_search() -> None:
    text = mini_text(record_of())

    assert re.search(r"^ΔP95: -\d+\.\dms \(-\d+\.\d%\)$", text, re.MULTILINE)
    assert re.search(r"^ΔQPS: [+-]\d+\.\d \([+-]?\d+\.\d%\)$", text, re.MULTILINE)
    assert re.search(r"^Error Rate: 0\.00%$", text, re.MULTILINE)
    assert re.search(r"^Valid A Windows: 8$", text, re.MULTILINE)
    assert re.search(r"^FAISS: n/a$", text, re.MULTILINE)


def test_changes_in_ms_and_in_percent_have_one_sign() -> None:
    windows = rollout(plan_of(8), 8, -30)
    # One slow window raises the mean of arm B above that of arm A; the paired change stays a decrease.
    slow = next(place for place, window in enumerate(windows) if window.arm is Arm.B)
    windows[slow] = windows[slow].model_copy(update={"p95_ms": 900.0, "metric": 900.0})

    record = record_of(windows=windows)

    assert record.judgement is not None
    assert record.judgement.delta_p95 is not None
    assert record.judgement.delta_p95.estimate_pct < 0
    assert re.search(r"^ΔP95: -\d+\.\dms \(-\d+\.\d%\)$", mini_text(record), re.MULTILINE)


def test_mini_json_has_the_fields_of_labops() -> None:
    found = mini_json(record_of())

    assert list(found) == [
        "ok", "message", "experiment_type", "delta_p95_pct", "delta_qps_pct", "error_rate_pct", "faiss_share_pct",
        "fallback_count", "generated_at",
    ]  # fmt: skip
    assert found["ok"] is True
    assert found["experiment_type"] == "combo"
    assert found["delta_p95_pct"] == pytest.approx(-30, abs=3)
    assert found["faiss_share_pct"] is None


@pytest.mark.parametrize(("change", "policy"), [(-30, "statistical"), (-30, "seed"), (-7, "statistical"), (0, "seed")])
def test_metric_that_a_plan_names_is_not_called_p95(change: float, policy: str) -> None:
    metric = "metric: {kind: json, url: 'http://localhost/figures', pointer: /queue}"
    plan = plan_of(8, rest=f"policy: {policy}\nearly_stop: true\nsubject: {{{metric}}}")
    windows = rollout(plan, 8, change)
    record = record_of(plan=plan, windows=windows, judgement=judge(windows, plan, stopped_early=True))

    text = summary_text(record)

    assert "- Δmetric: " in text
    assert "ΔP95" not in text
    assert "metric changed by" in text
    assert "P95 changed" not in text
    assert re.search(r"^ΔP95: [+-]\d+\.\dms \(n/a\)$", mini_text(record), re.MULTILINE)
    assert re.search(r"^Δmetric: [+-]?\d+\.\d%$", mini_text(record), re.MULTILINE)


def test_mini_report_without_windows_has_null_and_not_zero() -> None:
    record = record_of(windows=[])

    found = mini_json(record)

    assert found["delta_p95_pct"] is None
    assert found["delta_qps_pct"] is None
    assert found["error_rate_pct"] is None
    assert "ΔP95: n/a (n/a)" in mini_text(record)


@pytest.mark.parametrize(
    ("fields", "kind"), [("routing_mode: keep", "flow"), ("flow_policy: keep", "routing"), ("seed: 1", "combo")]
)
def test_mini_report_names_the_change(fields: str, kind: str) -> None:
    assert mini_json(record_of(plan=plan_of(8, experiment=fields)))["experiment_type"] == kind


def test_page_escapes_texts_and_loads_no_resource() -> None:
    hostile = "<script>alert(1)</script>"
    windows = [window.model_copy(update={"problems": (hostile,)}) for window in rollout(plan_of(8), 8, -30)]

    page = render_page(record_of(windows=windows, target=hostile, rollback_command=hostile), NO_LIBRARIES)

    assert hostile not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "default-src &#39;none&#39;" in page
    assert not re.search(r"(src|href)=", page)


def axis_of(spec: dict[str, Any]) -> list[int]:
    return next(layer["encoding"]["x"]["axis"]["values"] for layer in spec["layer"] if "x" in layer["encoding"])


def test_charts_count_windows_and_rounds_in_whole_numbers_and_no_change_below_100_percent() -> None:
    plan = plan_of(2)
    windows = rollout(plan, 2, -20, sd=0.05)
    many = rollout(plan, 20, -20)
    effects = effects_by_round(windows, plan)

    windows_spec = windows_chart(windows, unit="ms")
    interval_spec = interval_chart(effects, plan.thresholds)

    assert axis_of(windows_spec) == [1, 2, 3, 4]
    assert axis_of(interval_spec) == [1, 2]
    assert axis_of(windows_chart(many, unit="ms")) == list(range(1, 41, 3))
    scales = [layer["encoding"]["y"]["scale"]["domain"] for layer in interval_spec["layer"]]
    assert {domain[0] for domain in scales} == {-100}


def test_page_shows_the_thresholds_of_the_plan() -> None:
    page = render_page(record_of(), NO_LIBRARIES)

    assert re.search(r"thresholds\.pass_delta_p95_max</td><td[^>]*>-10\.0<", page)
    assert re.search(r"policy</td><td[^>]*>statistical<", page)
    assert re.search(r"canary</td><td[^>]*>none<", page)


def test_page_of_a_blocked_rollout_has_no_charts() -> None:
    page = render_page(record_of(windows=[], judgement=None, error="redis is down"), NO_LIBRARIES)

    assert "redis is down" in page
    assert "data-chart=" not in page


def test_page_of_a_factorial_rollout_shows_the_attribution() -> None:
    plan = plan_of(8, experiment="factorial: true")
    windows = rollout(plan, 8, 0, of_arm={Arm.A: 0.0, Arm.B: -40.0, Arm.C: -40.0, Arm.D: 0.0}.__getitem__)

    page = render_page(record_of(plan=plan, windows=windows), NO_LIBRARIES)

    assert "The gain comes from flow control" in page


def test_all_files_are_written_and_the_history_is_appended(tmp_path: Path) -> None:
    record = record_of()
    check_writable(record.plan, tmp_path)

    paths = write_reports(record, tmp_path)
    write_reports(record, tmp_path)

    assert paths.summary == tmp_path / "reports/LABOPS_AGENT_SUMMARY.txt"
    assert paths.mini_text == tmp_path / "reports/LAB_COMBO_REPORT_MINI.txt"
    assert paths.summary.read_text() == summary_text(record)
    assert paths.mini_text.read_text() == mini_text(record)
    lines = read_history(paths.history)
    assert len(lines) == 2
    assert verify_history(paths.history) is None
    assert {"timestamp", "config", "result", "verdict"} <= lines[0].keys()
    assert {"ok", "phase", "health", "execution", "judgment", "application", "end_time"} <= lines[0]["result"].keys()
    assert {"script_args", "returncode", "dry_run"} <= lines[0]["result"]["execution"].keys()
    assert {"metrics", "ab_imbalance", "decision"} <= lines[0]["result"]["judgment"].keys()
    assert lines[0]["verdict"] == "PASS"
    assert lines[0]["result"]["application"] == {
        "applied": True,
        "message": "Version 7 was read back.",
        "verdict": "PASS",
    }


def test_report_of_another_flag_names_no_flow_control() -> None:
    subject = "subject: {flags: {kind: product_flag, key: limit, a: old, b: new}}"
    record = record_of(plan=plan_of(8, rest=subject))

    assert mini_json(record)["experiment_type"] == "flag"
    assert "- Flow:" not in summary_text(record)
