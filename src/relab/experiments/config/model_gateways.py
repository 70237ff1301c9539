"""The section `runtime.model_gateways`: which servers of models a trial reaches by a gateway, and what is cached."""

from __future__ import annotations

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from relab.experiments.sandbox.egress_rules import EgressRule, split_authority
from relab.experiments.sandbox.protocol import NetworkMode

MAX_GATEWAYS: Final = 16
_PORTS: Final = {"http": 80, "https": 443}


def _check_upstream(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in _PORTS or split_authority(parts.netloc) is None or parts.query or parts.fragment:
        raise ValueError("the address is http:// or https://, a host, and a path, such as https://api.openai.com/v1")
    return text.rstrip("/")


class AnswerCacheConfig(BaseModel):
    """A cache of a model's answers; `scope` is which requests share one.

    `repeat`: the n-th equal request of the same task and repeat, so that repeats stay independent. `request`: all equal
    requests. Answers older than `ttl_hours` are not replayed; the cache of the project keeps at most `max_mb`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    scope: Literal["repeat", "request"] = "repeat"
    ttl_hours: Annotated[float, Field(gt=0, le=87_600)] = 168.0
    max_mb: Annotated[float, Field(gt=0)] = 1_024.0


class ModelGatewayConfig(BaseModel):
    """A gateway to the server of a model; `variable` is the environment variable that gets its address for the harness.

    `upstream` is the address of the server; without `cache`, every request is passed on.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    variable: Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]{0,199}$")]
    upstream: Annotated[str, AfterValidator(_check_upstream)]
    cache: AnswerCacheConfig | None = None

    @property
    def path(self) -> str:
        """The path of the server's address, such as `/v1`; empty without one."""
        return urlsplit(self.upstream).path

    @property
    def place(self) -> tuple[str, int]:
        """The host and the port of the server."""
        parts = urlsplit(self.upstream)
        found = split_authority(parts.netloc)
        assert found is not None
        return found[0], found[1] or _PORTS[parts.scheme]


def check_gateways(gateways: list[ModelGatewayConfig], mode: NetworkMode, allowed_hosts: list[str]) -> None:
    """Check that gateways open no way that the network mode closes.

    Raises:
        ValueError: a gateway leads to a host that trials may not reach, or two set the same variable.
    """
    if len({gateway.variable for gateway in gateways}) < len(gateways):
        raise ValueError("two model_gateways set the same variable")
    rules = [EgressRule.parse(host) for host in allowed_hosts]
    for gateway in gateways:
        host, port = gateway.place
        if mode is NetworkMode.NONE:
            raise ValueError(f"a gateway leads to {host}, but network.mode is 'none'; set it to 'allowlist_enforced'")
        if mode is NetworkMode.ALLOWLIST and not any(rule.covers(host, port) for rule in rules):
            raise ValueError(f"a gateway leads to {host}:{port}, which is not in network.allowed_hosts")


def cache_warnings(gateways: list[ModelGatewayConfig], replications: int) -> list[str]:
    """Return what a user must know about the caches of gateways, as sentences, for so many repeats of each task."""
    scopes = [gateway.cache.scope for gateway in gateways if gateway.cache is not None]
    found = []
    if scopes:
        found.append("Cached answers of models take no time: do not compare durations of runs with a model cache.")
    if "request" in scopes and replications > 1:
        found.append(
            "A model cache of scope 'request' gives all repeats the same answers, so repeats are not independent."
        )
    return found
