"""Folders and files of the reports of a rollout that cannot be written: an error before the first change of flags."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relab.rollouts.errors import ReportFolderError
from relab.rollouts.plans.models import Plan
from relab.rollouts.reports import check_writable, write_reports
from unit.rollouts.rollout_records import record_of


def test_report_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file in the place of the folder")

    with pytest.raises(ReportFolderError, match="reports"):
        check_writable(Plan(), tmp_path)
    with pytest.raises(ReportFolderError, match="rollout-1"):
        write_reports(record_of(), tmp_path)


def test_history_that_cannot_be_appended_to_is_named_before_the_rollout(tmp_path: Path) -> None:
    history = tmp_path / Plan().report.history_path
    history.mkdir(parents=True)

    with pytest.raises(ReportFolderError, match="history"):
        check_writable(Plan(), tmp_path)


@pytest.mark.parametrize("name", ["reports", "reports/LAB_COMBO_REPORT.html"])
def test_folder_in_place_of_a_report_is_named_before_the_rollout(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(parents=True)
    path = "reports" if name == "reports" else "reports/summary.txt"
    plan = Plan.model_validate({"report": {"output_path": path}})

    with pytest.raises(ReportFolderError, match=f"{name} is a folder"):
        check_writable(plan, tmp_path)


def test_folders_are_checked_by_several_rollouts_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        checks = [threads.submit(check_writable, Plan(), tmp_path) for _ in range(200)]

    assert [check.exception() for check in checks] == [None] * 200
    assert [path.name for path in (tmp_path / "reports").iterdir()] == []
