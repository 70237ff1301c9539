"""Settings of notices: their receivers, and who may answer in Slack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

from relab.incidents.notices.pagerduty import PageFrom

PAGERDUTY_URL: Final = "https://events.pagerduty.com/v2/enqueue"


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of sending to a receiver.

    Attributes:
        poll_s: interval of polls for pending events.
        within_s: time limit of a request.
        first_pause_s, longest_pause_s: pauses between retries; each is twice as long as the one before.
        give_up_after_s: a notice is given up when the sum of its pauses reaches this.
        lease_s: how long the lease of the sending process lasts; another one takes over when it expires.
    """

    poll_s: float = 1.0
    within_s: float = 10.0
    first_pause_s: float = 1.0
    longest_pause_s: float = 300.0
    give_up_after_s: float = 14_400.0
    lease_s: float = 20.0


@dataclass(frozen=True, slots=True)
class NoticeSettings:
    """Receivers of notices, and permissions in Slack.

    Attributes:
        slack_webhook_url: of an incoming webhook; its path is a secret.
        pagerduty_routing_key: of an integration of Events API v2.
        page_from: which event of an incident triggers the alert in PagerDuty.
        public_url: the address at which people reach relab; notices link to it.
        slack_signing_secret: of the Slack app whose commands are answered; if None, no commands are answered.
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
