"""The second act: a real shop breaks, and a responder, which gets no information, detects, repairs and verifies it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

from rich.console import Console
from rich.text import Text

from demo.broken_shop import FAULT, RATE_PER_S, Breaker, Crowd, a_breaker, a_shop, nothing
from demo.incident_view import Ending, ending_panel, event_lines, line
from demo.lab_client import LabError
from demo.lab_server import impatience_ignored, poll
from demo.report_view import as_data
from demo.responder_client import ResponderClient
from relab.testbed.scoring.responder import Bindings, RunningResponder, a_responder
from relab.testbed.scoring.testbeds import LeasedTestbed
from relab.testbed.scoring.users import Users

RESPONDER: Final = Bindings(
    responder_command=["{python}", "-m", "relab", "serve", "--only", "incidents", "--autonomy", "act"]
)
"""The responder as `lab incidents eval` starts it: addresses, a token, a poll per second, a clean environment."""
LEARNS_FROM_POLLS: Final = 10
LEARN_TIMEOUT_S: Final = 60.0
DETECT_TIMEOUT_S: Final = 30.0
END_TIMEOUT_S: Final = 120.0
FORMS: Final[tuple[Literal["html", "md"], ...]] = ("html", "md")
_SEED: Final = 1


class PatientStack(ExitStack):
    """An exit stack that ignores a second Ctrl-C while it cleans up; every clean-up in it has a time limit."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> bool | None:
        with impatience_ignored():
            return super().__exit__(kind, error, at)


def play_incident(
    console: Console, home: Path, responder_home: Path, *, then: Callable[[LeasedTestbed], int] | None = None
) -> int:
    """Start a shop, break it, and check what the responder does; return 0 if it repaired the shop, else 1.

    Args:
        console: the console for all output.
        home: the folder of the tour; the postmortem is written there.
        responder_home: the home folder of the responder; its data stay there.
        then: is called with the repaired shop, after its users and the responder have ended; its result is returned.

    Raises:
        RelabError: the shop or the responder cannot be started.
        LabError: the responder rejected a request, or did not finish in time.
    """
    console.print(Text("\nrelab: a shop breaks at night, and nobody is woken", style="bold"))
    with PatientStack() as stack:
        with console.status("Starting a shop: PostgreSQL, Redis, workers, action server (some 10 s)"):
            bed = stack.enter_context(a_shop())
        problems = _play_with_responder(console, bed, home, responder_home)
        if problems:
            return 1
        return 0 if then is None else then(bed)


def _play_with_responder(console: Console, bed: LeasedTestbed, home: Path, responder_home: Path) -> list[str]:
    """Break the shop under load, and print how the responder repairs it; return its failures, one sentence each."""
    crowd = Crowd()
    with PatientStack() as stack:
        breaker = stack.enter_context(a_breaker(bed))
        stack.enter_context(Users(bed.target, RATE_PER_S, seed=_SEED, report=crowd.show))
        console.print(as_data(f"shop: {bed.target}    {RATE_PER_S:.0f} users' requests each second"))
        with console.status("Starting the responder"):
            responder = stack.enter_context(_responder(bed, responder_home))
        console.print(as_data(f"lab serve --only incidents --autonomy act: {responder.url}"))
        console.print(Text(_walls(responder), style="dim"))
        client = stack.enter_context(ResponderClient(responder.url))
        ending = _play(console, client, breaker, crowd, home)
    console.print(ending_panel(ending))
    for problem in ending.problems:
        console.print(as_data(problem, "bold red"))
    if not ending.problems:
        console.print(Text("The responder found the cause and mended it.", style="bold green"))
    return ending.problems


def _responder(bed: LeasedTestbed, home: Path) -> AbstractContextManager[RunningResponder]:
    token = bed.make_token("on-call", "read", "act")
    hidden = [bed.layout.root.parent]
    return a_responder(RESPONDER, target=bed.target, actions=bed.actions, token=token, home=home, hidden=hidden)


def _walls(responder: RunningResponder) -> str:
    if responder.is_blinded:
        return "It sees its own processes only, and cannot reach the chaos server."
    return "It cannot reach the chaos server (with bubblewrap installed it would see its own processes only)."


def _play(console: Console, client: ResponderClient, breaker: Breaker, crowd: Crowd, home: Path) -> Ending:
    with console.status("The responder learns what is usual") as status:

        def has_learnt() -> bool:
            look = client.look()
            seen = min(look.polls, LEARNS_FROM_POLLS)
            status.update(f"The responder learns what is usual: {seen} of {LEARNS_FROM_POLLS} polls")
            return look.polls >= LEARNS_FROM_POLLS and look.incident_id is None

        if not poll(has_learnt, LEARN_TIMEOUT_S):
            raise LabError(f"The responder did not learn within {LEARN_TIMEOUT_S:.0f} s what is usual.")
        crowd.on_second = lambda: status.update(_users(crowd))
        began_s = time.monotonic()
        breaker.bring_about()
        console.print(
            line("broken", f"POST /api/v1/break/{FAULT.name}: connections leak; the responder gets no hint", 0.0)
        )
        incident_id = _detected(client)
        detected_s = time.monotonic() - began_s
        for event in client.follow(incident_id, END_TIMEOUT_S):
            shown = event_lines(event, time.monotonic() - began_s)
            if shown is not None:
                console.print(shown)
        over_s = time.monotonic() - began_s
        status.update("Writing the postmortem")
        crowd.on_second = nothing
        files = _write_postmortem(client, incident_id, home)
        found = client.incident(incident_id)
        return Ending(
            cause=FAULT.cause,
            # Checked last, after the responder has finished.
            truth=breaker.what_is_left(),
            outcome=found["outcome"],
            diagnosis=found["diagnosis"],
            probability=found["probability"],
            acts=[f"{act['action']}: {act['effect'] or act['status']}" for act in found["actions"]],
            badly_served_s=crowd.badly_served_s,
            well_pct=crowd.recent_pct(),
            detected_s=detected_s,
            over_s=over_s,
            files=files,
        )


def _detected(client: ResponderClient) -> str:
    """Wait for the responder to open an incident, and return the incident's id.

    Raises:
        LabError: the responder opened no incident in time.
    """
    found: list[str] = []

    def is_open() -> bool:
        incident_id = client.look().incident_id
        if incident_id is not None:
            found.append(incident_id)
        return bool(found)

    if not poll(is_open, DETECT_TIMEOUT_S):
        raise LabError(f"The responder did not find out within {DETECT_TIMEOUT_S:.0f} s that the shop is broken.")
    return found[0]


def _write_postmortem(client: ResponderClient, incident_id: str, home: Path) -> list[Path]:
    files = []
    for form in FORMS:
        path = home / f"postmortem.{form}"
        path.write_text(client.postmortem(incident_id, form), encoding="utf-8")
        files.append(Path(os.path.relpath(path)))
    return files


def _users(crowd: Crowd) -> str:
    well_pct = crowd.recent_pct()
    return "" if well_pct is None else f"{well_pct:.0f} % of the users' requests are served well"
