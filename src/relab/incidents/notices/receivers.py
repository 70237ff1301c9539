"""Describe a receiver of notices, and check its address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from relab.core.errors import ConfigurationError
from relab.incidents.notices.models import Notice


@dataclass(frozen=True, slots=True)
class Receiver:
    """A service that notices are sent to.

    Attributes:
        name: identifies the receiver in the database and in logs.
        setting: the environment variable with the address, for error messages.
        url: the receiver's address, which may contain a secret.
        compose: returns the body of the request for a notice; None if this receiver does not get the notice.
        secrets: further texts that must not be in logs or errors.
    """

    name: str
    setting: str
    url: SecretStr
    compose: Callable[[Notice], dict[str, Any] | None]
    secrets: tuple[SecretStr, ...] = field(default=())

    def without_secrets(self, text: str) -> str:
        """Return a text, such as an error that contains the URL, with all secrets of the receiver masked."""
        url = self.url.get_secret_value()
        path = urlsplit(url).path.strip("/")
        hidden = [url, *([path] if len(path) >= 8 else []), *(each.get_secret_value() for each in self.secrets)]
        for secret in hidden:
            text = text.replace(secret, "***")
        return text


def require_address(url: str, setting: str) -> None:
    """Check that a URL is the address of an HTTP server.

    Raises:
        ConfigurationError: the URL is not such an address. The message names `setting`, and omits the URL, which may be
            a secret.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not url.isascii() or not url.isprintable() or set(url) & set(" <>|"):
        raise ConfigurationError(
            f"{setting} is not the address of an HTTP server.", remedy="Write it as https://host/path, or unset it."
        )
