"""Convert notices to messages for a Slack-style incoming webhook. Pure.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and .../reference/block-kit/blocks/section-block
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from relab.core.clock import format_time
from relab.incidents.notices.message_text import escaped, for_slack, length
from relab.incidents.notices.models import Notice, NoticeKind
from relab.incidents.notices.receivers import Receiver

_MAX_IN_SECTION: Final = 2_900
"""Slack rejects a section of more than 3,000 characters."""
_MAX_HEADLINE: Final = 600
_MAX_DETAIL: Final = 400


@dataclass(frozen=True, slots=True)
class SlackOptions:
    """The channel to Slack.

    Attributes:
        slack_webhook_url: the address of an incoming webhook of Slack, a secret; None: no notices to Slack.
    """

    slack_webhook_url: SecretStr | None

    def receiver(self) -> Receiver | None:
        """Return the webhook as a receiver; None if no webhook is set."""
        url = self.slack_webhook_url
        return None if url is None else Receiver("slack", "RELAB_NOTICES__SLACK_WEBHOOK_URL", url, message_of)


OPTIONS: Final = SlackOptions


def message_of(notice: Notice) -> dict[str, Any]:
    """Return the body of the request to a Slack-style webhook for a notice; untrusted texts in it are escaped."""
    title, target = escaped(notice.title, 150), for_slack(notice.target, 200)
    headline = for_slack(notice.headline, _MAX_HEADLINE)
    lines = [f"*{title}* · {notice.severity.value} · {target}", headline]
    lines += [f"_{escaped(name, 50)}_: {for_slack(text, _MAX_DETAIL)}" for name, text in notice.details]
    blocks = [_section(lines)]
    if notice.commands:
        # Commands and their ids are written by relab, so they need no further masking.
        blocks.append(_section(["Answer by one of", *(f"`{escaped(each, 500)}`" for each in notice.commands)]))
    event = f"incident {notice.incident_id} · event {notice.seq}"
    footer = f"{escaped(notice.incident_id, 150) if notice.kind is NoticeKind.POSTED else event} · {format_time(notice.at_us)}"
    shown = footer if notice.url is None else f"{footer} · <{notice.url}|show it>"
    blocks.append({"type": "context", "elements": [_text(shown)]})
    return {
        "text": f"{title}: {target}: {headline}",
        "blocks": blocks,
        "link_names": False,
        "parse": "none",
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _section(lines: list[str]) -> dict[str, Any]:
    """Return a section block of a Slack message. If the lines are too long for it, an ellipsis replaces the last ones."""
    kept, room = [], _MAX_IN_SECTION
    for line in lines:
        room -= length(line) + 1
        if room < 0:
            kept.append("…")
            break
        kept.append(line)
    return {"type": "section", "text": _text("\n".join(kept))}


def _text(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}
