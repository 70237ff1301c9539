"""A process that writes to the incident log until killed: `python -m support.incidents.log_child COMMAND URL NAME`."""

from __future__ import annotations

import sys

from sqlalchemy import Connection, event

from relab.incidents.actions.records import ActionStatus
from relab.incidents.models import Severity
from relab.incidents.storage.ending import manual_closing
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentOutcome
from relab.storage import Database
from support.incidents.acts import NOW_US
from support.incidents.logs import anomaly, asked, question


def wait_at_commit(database: Database) -> None:
    """Make the next commit print `committing` and wait for a line on standard input."""

    def hold(_connection: Connection) -> None:
        print("committing", flush=True)
        sys.stdin.readline()

    event.listen(database.engine, "commit", hold)


def write(log: IncidentLog, command: str, name: str) -> None:
    """Run one command of the log; `name` is a target for `open`, and else the id of an incident."""
    if command == "open":
        log.open(name, at_us=NOW_US, title="Errors", severity=Severity.WARNING, anomalies=[anomaly()])
    elif command == "put":
        log.actions.put(asked(name))
    elif command == "finish":
        log.actions.finish(asked(name).key, ActionStatus.SUCCEEDED, at_us=NOW_US)
    elif command == "request":
        log.approvals.request(question(name, f"q-{name}"))
    elif command == "decide":
        log.approvals.decide(f"q-{name}", approved=True, by="ann", now_us=NOW_US)
    elif command == "close_by_person":
        log.closings.close(name, manual_closing("ann", "I restarted it."), at_us=NOW_US)
    else:
        log.close(name, at_us=NOW_US, outcome=IncidentOutcome.RESOLVED)


def main(command: str, url: str, name: str) -> None:
    """Run the command, and stop until killed: before its commit (`COMMAND:before`), or after it."""
    what, _, when = command.partition(":")
    database = Database.open(url)
    database.ping()
    if when == "before":
        wait_at_commit(database)
    write(IncidentLog(database), what, name)
    print("committed", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
