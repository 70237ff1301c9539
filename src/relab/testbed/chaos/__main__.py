"""`python -m relab.testbed.chaos`: run the chaos server of a testbed."""

from __future__ import annotations

import argparse
from pathlib import Path

import uvicorn

from relab.core.clock import SystemClock
from relab.testbed.actions.plant import Plant
from relab.testbed.chaos.faults.catalogue import INJECTABLES
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.machine import Impossible
from relab.testbed.chaos.manager import ChaosManager
from relab.testbed.chaos.server import create_app
from relab.testbed.links.client import LinksClient


def main() -> None:
    """Run the chaos server of one testbed until a signal ends the process; then end all injections."""
    parser = argparse.ArgumentParser(prog="python -m relab.testbed.chaos")
    parser.add_argument("--control", type=Path, required=True, help="The supervisor's socket.")
    parser.add_argument("--links", type=Path, required=True, help="The links' socket.")
    parser.add_argument("--private", type=Path, required=True, help="The folder of the workers' sockets.")
    parser.add_argument("--target", required=True, help="The address of the target.")
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    plant = Plant(args.control, args.target)
    ground = Ground(plant, LinksClient(args.links), args.private, args.target)
    manager = ChaosManager(INJECTABLES, ground, Impossible(plant), SystemClock())
    try:
        uvicorn.run(create_app(manager), host="127.0.0.1", port=args.port, log_level="warning", access_log=False)
    finally:
        manager.close()
        plant.close()


if __name__ == "__main__":
    main()
