"""A process that sends notices until it is killed: `python -m support.notices.child URL HOME WEBHOOK`."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import SecretStr

from relab.incidents.notices.channels.slack import SlackOptions
from relab.incidents.notices.settings import NoticeOptions
from support.notices.senders import QUICK, sending


def main(url: str, home: str, webhook: str) -> None:
    """Send notices, print `sending`, and wait to be killed."""
    with sending(url, Path(home), NoticeOptions((SlackOptions(SecretStr(webhook)),), delivery=QUICK)):
        print("sending", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
