"""The labels under which people read the kinds of timeline events. The stored kinds themselves are unchanged. Pure."""

from __future__ import annotations

from typing import Final

_LABELS: Final = {
    "finding": "anomaly",
    "signals": "measurements",
    "looked": "probes run",
    "gathered": "facts collected",
    "thought": "first estimate",
    "diagnosed": "diagnosis",
    "looks_again": "new diagnosis begins",
    "gone_again": "problem no longer seen",
    "model_asked": "model request",
    "model_answered": "model response",
    "model_failed": "model request failed",
    "model_not_asked": "model not called",
    "planned": "plan",
    "suggested": "suggested action",
    "refused": "action not allowed",
    "not_possible": "action not possible",
    "not_asked": "action not requested",
    "stood_down": "no action for now",
    "approval_asked": "approval requested",
    "approval_decided": "approval decision",
    "approval_withdrawn": "approval request withdrawn",
    "question_over": "approval request ended",
    "act_asked": "action requested",
    "act_finished": "action finished",
    "act_effect": "action result",
    "recovering": "recovery",
    "ended": "cause ended",
    "contained": "load limited",
    # The event also says that a repair is not verified.
    "verified": "verification",
    "not_undone": "rollback failed",
    "limit_stays": "limit remains",
    "records_unknown": "action records unreadable",
    "worsened": "outage worsened",
    "recurred": "outage recurred",
    "failed": "responder error",
    "notice_lost": "notice not sent",
    "drafted": "runbook drafted",
    "not_drafted": "runbook not drafted",
    "paused": "responder paused",
    "resumed": "responder resumed",
}


def label_of(kind: str) -> str:
    """Return the label of a kind of timeline events, such as `probes run` for `looked`.

    A kind without a label of its own is returned with spaces in place of underscores.
    """
    return _LABELS.get(kind, kind.replace("_", " "))
