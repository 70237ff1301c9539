"""A process that waits for a model's answer for ever: `python -m support.incidents.model_child FOLDER INCIDENT`."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relab.incidents.diagnosis.settings import AskWhen, ModelSettings
from support.incidents.modelled_cases import DOUBT, Case, Service, ThinkingGateway, a_log


def never(_incident: Mapping[str, Any]) -> Mapping[str, Any]:
    """Print `asked` and never return."""
    print("asked", flush=True)
    threading.Event().wait()
    return {}


def main(folder: str, incident_id: str) -> None:
    """Investigate until killed."""
    with a_log(Path(folder)) as log:
        made = Case(log, incident_id, ThinkingGateway(never), Service(DOUBT), ModelSettings(when=AskWhen.UNSURE))
        asyncio.run(made.investigate())


if __name__ == "__main__":
    main(*sys.argv[1:])
