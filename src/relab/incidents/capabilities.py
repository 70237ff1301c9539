"""List the existing probes, facts and actions, so that runbooks and settings can be checked for unknown names."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

import httpx

from relab.core.errors import ConfigurationError, UnavailableError
from relab.core.yaml_source import nearest
from relab.incidents.actions.catalogue import Catalogue
from relab.incidents.actions.client import ActionsClient
from relab.incidents.diagnosis.onset import ONSET
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.probes.models import ProbeRequest, ProbeServer
from relab.incidents.probes.requests import HEALTH_PATH, METRICS_PATH, ProbeTransport
from relab.incidents.probes.service_health import RELATIVE_FACTS
from relab.knowledge.service import ACTIONS, Surroundings

_RESPONSE_TIMEOUT_S: Final = 3.0
_MAX_CHARACTERS: Final = 100


def capabilities(actions: Collection[str] = ACTIONS) -> Surroundings:
    """Return the names that runbooks may use: probes, facts found by probes, and actions of the action server.

    Args:
        actions: the names of the server's actions; by default those of relab's own action server.
    """
    return Surroundings(actions, {name: probe.facts for name, probe in PROBES.items()}, (*RELATIVE_FACTS, ONSET))


def offered_actions(url: str, token: str | None) -> list[str]:
    """Return the names of the actions that the action server at `url` offers, sorted.

    Raises:
        ConfigurationError: there is no token for the server, or the address is not valid.
        ActionServerError: the request failed.
    """
    return sorted(_catalogue(url, token).actions)


def health_of(url: str) -> str:
    """Return the health status that the target at `url` reports, truncated to 100 characters.

    The answers are read as the responder reads them, with the same limits of time and size.

    Raises:
        UnavailableError: the target's health or metrics, which the responder polls, have no usable answer within three
            seconds, or the health has no status.
        ConfigurationError: the address is not valid.
    """
    health, metrics = (
        ProbeRequest(ProbeServer.TARGET, path, within_s=_RESPONSE_TIMEOUT_S) for path in (HEALTH_PATH, METRICS_PATH)
    )
    try:
        transport = ProbeTransport(url, url)
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigurationError(
            f"TARGET_API_BASE_URL is not a valid address: {error}.",
            remedy="Set it to an address such as http://host:8011.",
        ) from error
    found = asyncio.run(transport.together([health, metrics], _RESPONSE_TIMEOUT_S))
    for ask in (health, metrics):
        if found[ask][0].absence is not None or not isinstance(found[ask][0].document, dict):
            raise UnavailableError(
                f"The target has no usable answer to GET {ask.path}: {found[ask][0].reason or 'it is no JSON object'}.",
                remedy="Start it, or set TARGET_API_BASE_URL to a service with the paths that docs/own-service.md names.",
            )
    status = found[health][0].document.get("health_status")
    if not isinstance(status, str):
        raise UnavailableError(
            f"The target's answer to GET {HEALTH_PATH} has no text health_status.",
            remedy="Set TARGET_API_BASE_URL to a service whose answer has this field (docs/own-service.md).",
        )
    return status[:_MAX_CHARACTERS]


def server_unknown_classes(url: str, token: str | None, named: Collection[str]) -> list[str]:
    """Return a text for each class of actions in `named` that the action server does not offer.

    The text is the class in quotation marks, followed by a suggestion such as ` (did you mean 'restart'?)` if the
    server has a similar class.

    Args:
        url: the address of the action server.
        token: the bearer token; None raises `ConfigurationError`.
        named: the classes of actions, such as `restart`, that the settings name. The server offers a class if one of
            its actions has it.

    Raises:
        ConfigurationError: there is no token for the server, or the address is not valid.
        ActionServerError: the request failed.
    """
    return unknown_classes(_catalogue(url, token), named)


def unknown_classes(catalogue: Catalogue, named: Collection[str]) -> list[str]:
    """Return a text for each class of actions in `named`, such as `restart`, that is missing in the catalogue.

    A class is missing if no action of the catalogue has it. The text is the class in quotation marks, followed by a
    suggestion such as ` (did you mean 'restart'?)` if the catalogue has a similar class.
    """
    offered = sorted({entry.action_class for entry in catalogue.actions.values()})
    return [f"{name[:100]!r}{nearest(name, offered)}" for name in sorted(named) if name not in offered]


def _catalogue(url: str, token: str | None) -> Catalogue:
    if token is None:
        raise ConfigurationError("There is no token for the action server.", remedy="Set ACTION_SERVER_TOKEN.")

    async def ask() -> Catalogue:
        server = ActionsClient(url, token)
        return await server.catalogue()

    return asyncio.run(ask())
