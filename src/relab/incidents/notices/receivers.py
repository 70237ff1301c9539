"""Who is told of incidents, as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from relab.core.errors import ConfigurationError
from relab.incidents.notices.models import Notice
from relab.incidents.notices.pagerduty import event_of
from relab.incidents.notices.settings import NoticeSettings
from relab.incidents.notices.slack import message_of

SLACK = "slack"
PAGERDUTY = "pagerduty"


@dataclass(frozen=True, slots=True)
class Receiver:
    """Somebody who is told.

    Attributes:
        name: that its places in timelines are stored under.
        url: where it is; a secret may be a part of it.
        compose: makes the body of a request, or None of what it need not know.
        secrets: texts that are in no log and no error, beside the URL.
    """

    name: str
    url: SecretStr
    compose: Callable[[Notice], dict[str, Any] | None]
    secrets: tuple[SecretStr, ...] = field(default=())

    def without_secrets(self, text: str) -> str:
        """Return a text that may be logged: receivers repeat what they were sent, and libraries where they sent it."""
        url = self.url.get_secret_value()
        path = urlsplit(url).path.strip("/")
        hidden = [url, *([path] if len(path) >= 8 else []), *(each.get_secret_value() for each in self.secrets)]
        for secret in hidden:
            text = text.replace(secret, "***")
        return text


def receivers_of(settings: NoticeSettings) -> list[Receiver]:
    """Return whom the settings name.

    Raises:
        ConfigurationError: an address is none; it is not repeated, for it may be a secret.
    """
    found = []
    webhook, key = settings.slack_webhook_url, settings.pagerduty_routing_key
    if webhook is not None:
        _require_address(webhook.get_secret_value(), "RELAB_NOTICES__SLACK_WEBHOOK_URL")
        found.append(Receiver(SLACK, webhook, message_of))
    if key is not None:
        _require_address(settings.pagerduty_url, "RELAB_NOTICES__PAGERDUTY_URL")
        routing_key = key.get_secret_value()

        def compose(notice: Notice) -> dict[str, Any] | None:
            return event_of(notice, routing_key, settings.page_from)

        found.append(Receiver(PAGERDUTY, SecretStr(settings.pagerduty_url), compose, (key,)))
    if settings.public_url is not None:
        _require_address(settings.public_url, "RELAB_NOTICES__PUBLIC_URL")
    return found


def _require_address(url: str, setting: str) -> None:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not url.isascii() or not url.isprintable() or set(url) & set(" <>|"):
        raise ConfigurationError(
            f"{setting} is no address of an HTTP server.", remedy="Write it as https://host/path, or unset it."
        )
