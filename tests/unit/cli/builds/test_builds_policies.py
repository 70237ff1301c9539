"""`lab builds policies`: prints estimates as JSON that every program can read."""

from __future__ import annotations

import json

from relab.builds.optimizer.evaluation import LoggedDecision, evaluate
from relab.builds.optimizer.policies.fixed import FixedPolicy
from relab.builds.optimizer.situation import FEATURES
from relab.cli.builds.app import evaluation_json


def test_infinite_interval_has_no_ends() -> None:
    """If the log has no decision with the policy's action, nothing is known about its reward."""
    decisions = [LoggedDecision([1.0] * len(FEATURES), (0, 1), (0.0, 1.0), 1, 0.5, number) for number in range(40)]

    shown = evaluation_json(evaluate(FixedPolicy(0), decisions))

    assert shown["snips"]["interval"]["low"] is None
    assert shown["snips"]["interval"]["high"] is None
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
