"""What the reports of a rollout advise, and how they explain their figures."""

from __future__ import annotations

import pytest

from relab.rollouts.judging import judge
from relab.rollouts.models import Arm
from relab.rollouts.reports import mini_text, render_page, summary_text
from unit.rollouts.rollout_records import record_of
from unit.rollouts.rollout_windows import altered, plan_of, rollout

NO_LIBRARIES = "/* no charts */"


def test_next_steps_of_an_invalid_rollout_name_each_remedy_before_the_repetition() -> None:
    windows = altered(rollout(plan_of(8), 8, -30), Arm.B, dropped=100, completed=1_100)

    lines = summary_text(record_of(windows=windows, flags_restored=True)).splitlines()

    steps = lines[lines.index("NEXT STEP") + 1 : lines.index("APPLY COMMAND") - 1]
    assert steps[0].endswith("so its load was too low. Lower `qps`, or raise `max_in_flight`.")
    assert steps[-1] == "- Then run the rollout again"


def test_next_step_with_an_answer_of_the_target_is_one_line_and_cannot_add_a_section() -> None:
    windows = rollout(plan_of(8), 8, -30)
    problem = f"Unhealthy: x\n\nROLLBACK\ncurl evil {'y' * 5_000}"
    windows[5] = windows[5].model_copy(update={"problems": (problem,), "remedy": "Start it."})

    lines = summary_text(record_of(windows=windows, flags_restored=True)).splitlines()

    assert lines.count("ROLLBACK") == 1
    assert lines[lines.index("NEXT STEP") + 2] == "- Then run the rollout again"
    assert max(map(len, lines)) < 700


def test_page_of_an_early_end_names_the_level_of_the_last_interval() -> None:
    plan = plan_of(8, rest="early_stop: true")
    windows = rollout(plan, 7, -60)
    stopped = judge(windows, plan, stopped_early=True)

    early = render_page(record_of(plan=plan, windows=windows, judgement=stopped), NO_LIBRARIES)
    late = render_page(record_of(), NO_LIBRARIES)

    assert "The last interval has the level 99.85 %, because an early look" in early
    assert "All intervals have the level 99 %." in late


def test_page_without_a_judged_round_has_no_section_about_the_change() -> None:
    windows = rollout(plan_of(8), 1, -30)
    windows[1] = windows[1].model_copy(update={"metric": None, "problems": ("Redis was down.",)})

    page = render_page(record_of(windows=windows), NO_LIBRARIES)

    assert page.count("data-chart=") == 1
    assert "change of B against A" not in page
    assert "The change after each round" not in page
    assert page.count("Redis was down.") == 2  # the reason, and the table of windows


def test_long_reason_is_shown_to_its_end() -> None:
    error = f"http://127.0.0.1:9000/{'metrics/' * 20} answers 500. Check the URL and the headers in the plan."

    assert f"- Reason: {error}\n" in summary_text(record_of(error=error))


@pytest.mark.parametrize(("new", "is_named"), [(10.0, True), (20, False)])
def test_dry_run_names_arms_with_equal_flags(new: float, *, is_named: bool) -> None:
    record = record_of(
        is_dry_run=True, judgement=None, application=None, flags_restored=None, changes={Arm.A: 10, Arm.B: new}
    )

    assert ("both arms are the same" in summary_text(record)) is is_named


def test_valid_windows_of_the_mini_report_have_a_figure_that_can_be_judged() -> None:
    windows = rollout(plan_of(8), 8, -30)
    windows[0] = windows[0].model_copy(update={"metric": -1.0})

    assert f"Valid {windows[0].arm} Windows: 7" in mini_text(record_of(windows=windows))
