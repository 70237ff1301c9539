"""Write the files of a rollout's report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

from relab.core.atomic_files import replacing
from relab.core.clock import format_time
from relab.core.control_characters import escape_json
from relab.rollouts.errors import ReportFolderError
from relab.rollouts.plans.models import Plan
from relab.rollouts.record import RolloutRecord
from relab.rollouts.reports.history import append_history
from relab.rollouts.reports.mini import mini_json, mini_text
from relab.rollouts.reports.page import render_page
from relab.rollouts.reports.summary import summary_text
from relab.rollouts.reports.wording import is_applied

MINI: Final = "LAB_COMBO_REPORT_MINI"
PAGE: Final = "LAB_COMBO_REPORT.html"


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """The files of a rollout's report.

    They are the summary, the mini report (key figures and verdict) as text and as JSON, the page, and the history.
    """

    summary: Path
    mini_text: Path
    mini_json: Path
    page: Path
    history: Path


def paths_of(plan: Plan, root: Path) -> ReportPaths:
    """Return the paths of a plan's reports.

    Args:
        plan: the plan.
        root: the base folder of relative paths in the plan.
    """
    summary = root / plan.report.output_path
    folder = summary.parent
    return ReportPaths(
        summary=summary,
        mini_text=folder / f"{MINI}.txt",
        mini_json=folder / f"{MINI}.json",
        page=folder / PAGE,
        history=root / plan.report.history_path,
    )


def check_writable(plan: Plan, root: Path) -> None:
    """Create the folders for a rollout's reports below `root`, and check that the reports can be written.

    Raises:
        ReportFolderError: a folder cannot be created or written, the history is read-only or not a file, or a report
            has the path of a folder.
    """
    paths = paths_of(plan, root)
    for path in (paths.summary, paths.mini_text, paths.mini_json, paths.page):
        if path.is_dir():
            raise ReportFolderError(
                f"{path} is a folder, so no report can be written there.",
                remedy="Change report.output_path, which names the file of the summary.",
            )
    for folder in (paths.summary.parent, paths.history.parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A file is written because permissions alone say little: a file system can be mounted read-only or be full.
            with TemporaryFile(dir=folder) as probe:
                probe.write(b"\n")
                probe.flush()
        except OSError as error:
            raise ReportFolderError(
                f"The folder {folder} of the plan's reports cannot be written: {error.strerror}.",
                remedy="Change report.output_path or report.history_path, or the folder's permissions.",
            ) from error
    try:
        if paths.history.exists():
            paths.history.open("ab").close()
    except OSError as error:
        raise ReportFolderError(f"The history {paths.history} cannot be written: {error.strerror}.") from error


def write_reports(record: RolloutRecord, root: Path) -> ReportPaths:
    """Write the reports of a rollout below `root`, append its line to the history, and return all paths.

    Raises:
        ReportFolderError: a file cannot be written.
    """
    paths = paths_of(record.plan, root)
    contents = {
        paths.summary: summary_text(record),
        paths.mini_text: mini_text(record),
        paths.mini_json: escape_json(json.dumps(mini_json(record), indent=2, ensure_ascii=False)) + "\n",
        paths.page: render_page(record),
    }
    try:
        # The history first: it is the record of what happened, and the other files can be made from the database.
        append_history(paths.history, history_entry(record))
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, durable=True) as fresh:
                fresh.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ReportFolderError(f"The report of {record.rollout_id} cannot be written: {error}.") from error
    return paths


def history_entry(record: RolloutRecord) -> dict[str, Any]:
    """Return the history line of a rollout as a JSON object.

    It has the fields of the history of LabOps, an older tool, and `rollout_id`.
    """
    found = record.judgement
    verdict = None if found is None else found.verdict.value
    application = record.application
    return {
        "timestamp": format_time(record.started_at or record.created_at),
        "rollout_id": record.rollout_id,
        "config": record.plan.model_dump(mode="json"),
        "result": {
            "ok": record.error is None and found is not None,
            "phase": record.phase.value,
            "health": None if record.health is None else record.health.model_dump(mode="json"),
            "execution": {
                "script_args": [],
                "returncode": 1 if record.error is not None else 0,
                "dry_run": record.is_dry_run,
                "windows": len(record.windows),
            },
            **({} if record.experiment is None else {"experiment": record.experiment.model_dump(mode="json")}),
            "judgment": None if found is None else _judgment(record),
            "application": {
                "applied": is_applied(record),
                "message": "" if application is None else application.message,
                "verdict": verdict,
            },
            "error": record.error,
            "end_time": None if record.finished_at is None else format_time(record.finished_at),
        },
        "verdict": verdict,
    }


def _judgment(record: RolloutRecord) -> dict[str, Any]:
    found = record.judgement
    assert found is not None
    figures = mini_json(record)
    names = ("delta_p95_pct", "delta_qps_pct", "error_rate_pct", "faiss_share_pct", "fallback_count")
    return {
        "metrics": {name: figures[name] for name in names},
        "ab_imbalance": found.ab_imbalance_pct,
        "decision": {
            "verdict": found.verdict.value,
            "reason": found.reason,
            "apply_flags": found.verdict.value == "PASS",
            "warnings": list(found.warnings),
            "summary": f"{found.verdict.value}: {found.reason}",
        },
        "figures": found.model_dump(mode="json"),
    }
