"""Write the mini report of a rollout (the key figures and the verdict) as text and as JSON.

Other programs parse both. An unmeasured figure is `n/a` in the text and null in JSON, never 0.
"""

from __future__ import annotations

import math
from typing import Any

from relab.core.clock import format_time
from relab.core.control_characters import escape_text
from relab.rollouts.judging.rollout_data import is_judgeable
from relab.rollouts.models import Arm, ArmWindow
from relab.rollouts.record import RolloutRecord
from relab.rollouts.reports.wording import UNKNOWN, decision, percent, reason


def mini_text(record: RolloutRecord) -> str:
    """Return the mini report (the key figures and the verdict) of a rollout as text.

    The format is the same as in LabOps, an older tool whose reports other programs parse.
    """
    found = record.judgement
    judged_pct = None if found is None or found.delta_p95 is None else found.delta_p95.estimate_pct
    qps_pct = None if found is None else found.delta_qps_pct
    is_p95 = record.plan.subject.metric is None
    p95_pct = judged_pct if is_p95 else None
    lines = [
        "LAB COMBO REPORT (MINI)",
        f"ΔP95: {_signed(_change(record, 'p95_ms', p95_pct), 'ms')} ({percent(p95_pct)})",
        *([] if is_p95 else [f"Δmetric: {percent(judged_pct)}"]),
        f"ΔQPS: {_signed(_change(record, 'qps', qps_pct))} ({percent(qps_pct)})",
        f"Error Rate: {percent(None if found is None else found.error_rate_pct, digits=2, signed=False)}",
        f"FAISS: {UNKNOWN}",
        f"Fallbacks (FAISS→Qdrant): {UNKNOWN}",
        f"Valid A Windows: {_valid(record, Arm.A)}",
        f"Valid B Windows: {_valid(record, Arm.B)}",
        f"Verdict: {decision(record)}",
        f"Reason: {' '.join(reason(record).split())}",
    ]
    return escape_text("\n".join(lines) + "\n")


def mini_json(record: RolloutRecord) -> dict[str, Any]:
    """Return the mini report (the key figures and the verdict) of a rollout as a JSON object.

    The fields have the same names as in LabOps, an older tool.
    """
    found = record.judgement
    ended_at = record.finished_at or record.started_at or record.created_at
    return {
        "ok": found is not None and record.error is None,
        "message": f"{decision(record)}: {reason(record)}"[:2_000],
        "experiment_type": _experiment_type(record),
        "delta_p95_pct": None if found is None or found.delta_p95 is None else found.delta_p95.estimate_pct,
        "delta_qps_pct": None if found is None else found.delta_qps_pct,
        "error_rate_pct": None if found is None else found.error_rate_pct,
        "faiss_share_pct": None,
        "fallback_count": None,
        "generated_at": format_time(ended_at),
    }


def _experiment_type(record: RolloutRecord) -> str:
    if record.experiment is not None:
        return "experiment"
    if record.plan.subject.flags.kind != "service":
        return "flag"
    measured = record.plan.experiment
    changed = [
        name for name, value in (("flow", measured.flow_policy), ("routing", measured.routing_mode)) if value != "keep"
    ]
    return "combo" if len(changed) == 2 else changed[0] if changed else "flag"


def _valid(record: RolloutRecord, arm: Arm) -> int:
    return sum(window.arm is arm and is_judgeable(window) for window in record.windows)


def _change(record: RolloutRecord, name: str, change_pct: float | None) -> float | None:
    """Return the change of a figure from arm A (old flags) to arm B (new flags), in the unit of the figure.

    With `change_pct`, the result is this percentage of arm A's mean. Otherwise, it is arm B's mean minus arm A's mean.
    Return None if the mean of an arm is unknown.

    Args:
        record: the rollout.
        name: the field of `ArmWindow` with the figure.
        change_pct: the judged change of the figure, in percent; None if the figure was not judged.
    """
    a, b = (_mean([window for window in record.windows if window.arm is arm], name) for arm in (Arm.A, Arm.B))
    if a is None or b is None:
        return None
    return b - a if change_pct is None else a * change_pct / 100


def _mean(windows: list[ArmWindow], name: str) -> float | None:
    values = [value for window in windows if (value := getattr(window, name)) is not None]
    return math.fsum(values) / len(values) if values else None


def _signed(value: float | None, unit: str = "") -> str:
    return UNKNOWN if value is None else f"{value:+.1f}{unit}"
