"""Who is told of incidents, and who may answer: what operators decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

from relab.incidents.notices.pagerduty import PageFrom

PAGERDUTY_URL: Final = "https://events.pagerduty.com/v2/enqueue"


@dataclass(frozen=True, slots=True)
class Pace:
    """How a receiver is told.

    Attributes:
        poll_s: how often it is looked whether there is something to tell.
        within_s: how long a receiver may take to answer.
        first_pause_s, longest_pause_s: between two tries; each is twice the one before.
        give_up_after_s: a notice that is still not taken after pauses of so long in all is given up.
        lease_s: how long one process sends before another one may take over, if it says nothing more.
    """

    poll_s: float = 1.0
    within_s: float = 10.0
    first_pause_s: float = 1.0
    longest_pause_s: float = 300.0
    give_up_after_s: float = 14_400.0
    lease_s: float = 20.0


@dataclass(frozen=True, slots=True)
class NoticeSettings:
    """Receivers of notices, and what Slack may do.

    Attributes:
        slack_webhook_url: of an incoming webhook; its path is a secret.
        pagerduty_routing_key: of an integration of Events API v2.
        page_from: from when on PagerDuty knows of an incident.
        public_url: where people reach relab; notices link to it.
        slack_signing_secret: of the Slack app whose commands are answered; None: none are.
        slack_operators: ids of the users who may approve, reject, pause and resume; by default nobody.
    """

    slack_webhook_url: SecretStr | None = None
    pagerduty_routing_key: SecretStr | None = None
    pagerduty_url: str = PAGERDUTY_URL
    page_from: PageFrom = PageFrom.OPENED
    public_url: str | None = None
    slack_signing_secret: SecretStr | None = None
    slack_operators: frozenset[str] = frozenset()
    pace: Pace = Pace()
