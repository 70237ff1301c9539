"""Reports of a rollout, from its record: summary, mini report, page, and the line of its history.

A record goes in; files come out (`files.py`). The texts themselves are pure functions.
"""

from relab.rollouts.reports.files import ReportPaths, check_writable, paths_of, write_reports
from relab.rollouts.reports.history import HistoryProblem, read_history, verify_history
from relab.rollouts.reports.mini import mini_json, mini_text
from relab.rollouts.reports.page import render_page
from relab.rollouts.reports.summary import summary_text

__all__ = [
    "HistoryProblem",
    "ReportPaths",
    "check_writable",
    "mini_json",
    "mini_text",
    "paths_of",
    "read_history",
    "render_page",
    "summary_text",
    "verify_history",
    "write_reports",
]
