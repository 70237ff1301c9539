"""`python -m relab.testbed.actions`: run the action server of a testbed."""

from __future__ import annotations

import argparse
from pathlib import Path

import uvicorn

from relab.core.clock import SystemClock
from relab.testbed.actions.audit import AuditLog
from relab.testbed.actions.guard import ActionLimits, Guard
from relab.testbed.actions.health import TargetHealth
from relab.testbed.actions.looks import Looks
from relab.testbed.actions.operations.catalogue import all_operations
from relab.testbed.actions.plant import Plant
from relab.testbed.actions.server import ActionServices, create_app
from relab.testbed.actions.service import ActionService
from relab.testbed.actions.tokens import Tokens


def main() -> None:
    """Run the action server (which executes repairs) of one testbed until a signal ends the process."""
    parser = argparse.ArgumentParser(prog="python -m relab.testbed.actions")
    parser.add_argument("--control", type=Path, required=True, help="The supervisor's socket.")
    parser.add_argument("--target", required=True, help="Where the target answers.")
    parser.add_argument("--audit", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--open", action="store_true", help="Requests of this machine need no token.")
    parser.add_argument("--window-s", type=float, default=ActionLimits.window_s)
    parser.add_argument("--max-per-window", type=int, default=ActionLimits.max_per_window)
    parser.add_argument("--max-per-part", type=int, default=ActionLimits.max_per_part)
    parser.add_argument("--cooldown-s", type=float, default=ActionLimits.cooldown_s)
    args = parser.parse_args()
    limits = ActionLimits(args.window_s, args.max_per_window, args.max_per_part, args.cooldown_s)
    plant, audit, health = Plant(args.control, args.target), AuditLog(args.audit), TargetHealth(args.target)
    try:
        service = ActionService(all_operations(plant), audit, Guard(audit, limits), SystemClock())
        app = create_app(ActionServices(service, Tokens(args.tokens), health, Looks(plant), is_open=args.open))
        uvicorn.run(app, host="127.0.0.1", port=args.port, log_level="warning", access_log=False)
    finally:
        health.close()
        audit.close()
        plant.close()


if __name__ == "__main__":
    main()
