"""The section `runtime.model_gateways`: gateways from trials to model servers, and caches of the models' answers."""

from __future__ import annotations

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from relab.core.stored_documents import is_stored
from relab.experiments.sandbox.egress_rules import EgressRule, split_authority
from relab.experiments.sandbox.protocol import NetworkMode

MAX_GATEWAYS: Final = 16
_PORTS: Final = {"http": 80, "https": 443}


def _check_upstream(text: str, info: ValidationInfo) -> str:
    # `urlsplit` drops some white space without an error. Earlier versions accepted it; their runs must stay readable.
    if not is_stored(info) and (not text.isprintable() or " " in text):
        raise ValueError("the address contains white space or control characters; remove them")
    parts = urlsplit(text)
    if parts.scheme not in _PORTS or split_authority(parts.netloc) is None or parts.query or parts.fragment:
        raise ValueError("the address is http:// or https://, a host, and a path, such as https://api.openai.com/v1")
    return text.rstrip("/")


class AnswerCacheConfig(BaseModel):
    """A cache of a model's answers.

    Attributes:
        scope: which requests share one answer. `request`: all equal requests. `repeat`: equal requests of trials with
            the same task and repeat number. With `repeat`, if a trial sends an equal request several times, each has
            an answer of its own: the n-th shares the answer of the n-th equal request of the other trials.
        ttl_hours: the greatest age of a cached answer, in hours.
        max_mb: the largest size of the project's cache, in MB.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    scope: Literal["repeat", "request"] = "repeat"
    ttl_hours: Annotated[float, Field(gt=0, le=87_600)] = 168.0
    max_mb: Annotated[float, Field(gt=0)] = 1_024.0


class ModelGatewayConfig(BaseModel):
    """A model gateway: a proxy of the runner through which a harness sends its requests to the server of a model.

    Attributes:
        variable: the harness's environment variable that is set to the address of the gateway.
        upstream: the address of the server.
        cache: the cache of the model's answers; None means that every request is passed on to the server.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    variable: Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]{0,199}$")]
    upstream: Annotated[str, AfterValidator(_check_upstream)]
    cache: AnswerCacheConfig | None = None

    @property
    def path(self) -> str:
        """The path in `upstream`, the address of the model's server, such as `/v1`; empty if it has no path."""
        return urlsplit(self.upstream).path

    @property
    def place(self) -> tuple[str, int]:
        """The host and the port in `upstream`, the address of the model's server.

        If the address has no port, it is the default port of its scheme.
        """
        parts = urlsplit(self.upstream)
        found = split_authority(parts.netloc)
        assert found is not None
        return found[0], found[1] or _PORTS[parts.scheme]


def check_gateways(gateways: list[ModelGatewayConfig], mode: NetworkMode, allowed_hosts: list[str]) -> None:
    """Check that model gateways (proxies of the runner) lead only to hosts permitted by the network mode.

    Args:
        gateways: the configured gateways.
        mode: the network mode of trials.
        allowed_hosts: the hosts that trials may reach with the mode `allowlist_enforced`.

    Raises:
        ValueError: a gateway leads to a host that trials may not reach, or two gateways set the same variable.
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
    """Return warnings for the user, as sentences, about the effects of cached model answers on results.

    A model gateway (the runner's proxy to the server of a model) may answer from a cache: a cached answer takes no
    time, and repeats of a task may get equal answers. `replications` is the number of repeats of each task.
    """
    scopes = [gateway.cache.scope for gateway in gateways if gateway.cache is not None]
    found = []
    if scopes:
        found.append("Cached answers of models take no time: do not compare durations of runs with a model cache.")
    if "request" in scopes and replications > 1:
        found.append(
            "A model cache of scope 'request' gives all repeats the same answers, so repeats are not independent."
        )
    return found
