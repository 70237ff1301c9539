"""The receivers of notices, built from the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from relab.core.errors import ConfigurationError
from relab.incidents.notices.models import Notice
from relab.incidents.notices.pagerduty import event_of
from relab.incidents.notices.settings import NoticeOptions
from relab.incidents.notices.slack_messages import message_of

SLACK = "slack"
PAGERDUTY = "pagerduty"


@dataclass(frozen=True, slots=True)
class Receiver:
    """A service to which notices are sent.

    Attributes:
        name: the name of the receiver in the database (see `Outbox`).
        url: the receiver's address, which may contain a secret.
        compose: returns the body of the request for a notice; None if this receiver does not get the notice.
        secrets: further texts that must not be in logs or errors.
    """

    name: str
    url: SecretStr
    compose: Callable[[Notice], dict[str, Any] | None]
    secrets: tuple[SecretStr, ...] = field(default=())

    def without_secrets(self, text: str) -> str:
        """Return a text for logs with all secrets masked, such as an error that contains the URL."""
        url = self.url.get_secret_value()
        path = urlsplit(url).path.strip("/")
        hidden = [url, *([path] if len(path) >= 8 else []), *(each.get_secret_value() for each in self.secrets)]
        for secret in hidden:
            text = text.replace(secret, "***")
        return text


def receivers_of(settings: NoticeOptions) -> list[Receiver]:
    """Return the receivers that the settings name: Slack, PagerDuty, both or none.

    Raises:
        ConfigurationError: an address is not valid; the message omits it, because it may be a secret.
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
            return event_of(notice, routing_key, settings.page_on)

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
            f"{setting} is not the address of an HTTP server.", remedy="Write it as https://host/path, or unset it."
        )
