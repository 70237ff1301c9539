"""The watched target: its name, its addresses, and the token for its action server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from relab.core.errors import ConfigurationError
from relab.incidents.settings import ResponderSettings

if TYPE_CHECKING:
    from relab.llm import MeteredGateway


@dataclass(frozen=True, slots=True)
class WatchedTarget:
    """A target that a responder watches, its action server, and the settings of the responder.

    Attributes:
        name: the name under which the incidents of the target are stored.
        url: the address of the target.
        actions_url: the address of the action server.
        token: the token for the action server; None if no token is set.
        settings: the settings of the responder.
        gateway: the language model that gives a second opinion on causes; None: no model is used.
    """

    name: str
    url: str
    actions_url: str
    token: SecretStr | None
    settings: ResponderSettings
    gateway: MeteredGateway | None = None


def target_name(url: str) -> str:
    """Return the name of the target at an address: the host and port, then the path if the address has one.

    User name, password and query are left out, because they may be secret.

    Raises:
        ConfigurationError: `url` is not the address of an HTTP server.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigurationError(
            "TARGET_API_BASE_URL is not the address of an HTTP server.", remedy="Write it as http://host:port."
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port or (443 if parts.scheme == 'https' else 80)}{parts.path.rstrip('/')}"


def action_token(watched: WatchedTarget) -> str | None:
    """Return the token for the action server; None if the responder only observes and no token is set.

    Raises:
        ConfigurationError: no token is set, although the responder may do more than observe.
    """
    if watched.token is None and watched.settings.policy.only_observes:
        return None
    if watched.token is None:
        raise ConfigurationError(
            f"ACTION_SERVER_TOKEN is not set: the responder of {watched.name} could not read or request actions.",
            remedy=f"Set it to a token of the action server at {watched.actions_url} (for a testbed: `lab testbed token`), "
            "or only observe (RELAB_INCIDENTS__AUTONOMY=observe), or unset TARGET_API_BASE_URL.",
        )
    return watched.token.get_secret_value()
