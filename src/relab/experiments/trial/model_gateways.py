"""Create the model gateways of each attempt, and count their requests.

A gateway is an HTTP server that passes the harness's requests on to a model's server.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relab.core.clock import SystemClock
from relab.experiments.config.model_gateways import ModelGatewayConfig
from relab.experiments.models import TrialIds
from relab.experiments.sandbox.protocol import Listener
from relab.experiments.trial.redaction import Redactor
from relab.experiments.trial.trial_folder import TrialFolder

if TYPE_CHECKING:
    from relab.experiments.trial.answer_cache import AnswerCache
    from relab.experiments.trial.model_gateway import ModelGateway

GATEWAY_PORT: Final = 4_480
"""The port of the first gateway inside a sandbox."""
LOG: Final = "model_requests.jsonl"
"""The file in a trial's folder with a line for each request to a gateway, up to a limit for each gateway."""
_MB: Final = 1_048_576
_HOUR_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class TrialServices:
    """Services that the runner offers inside the network of one trial, such as proxies to models and a trace receiver.

    Attributes:
        listeners: the services, with their addresses and ports inside the sandbox.
        environment: the environment variables that give these addresses to the harness.
    """

    listeners: Sequence[Listener]
    environment: Mapping[str, str]


class ModelGateways:
    """Creates the gateways (HTTP servers that pass requests on to a model's server) of each attempt; thread-safe.

    Args:
        configs: the configurations of the gateways.
        cache: the folder of the project's cache; None to store no answers.
        redactor: finds secrets of the harness in answers; answers with secrets are not stored.
    """

    def __init__(self, configs: Sequence[ModelGatewayConfig], cache: Path | None, redactor: Redactor) -> None:
        self._configs = configs
        self._redactor = redactor
        self._lock = threading.Lock()
        self._starts: Counter[str] = Counter()
        self._open: dict[str, list[ModelGateway]] = {}
        self._clock = SystemClock()
        self._caches = [self._cache_of(config, cache) for config in configs]

    def open(self, folder: TrialFolder, ids: TrialIds, ports: Sequence[int]) -> TrialServices:
        """Create the gateways of an attempt that starts now; return them, with environment variables for the harness.

        A gateway is an HTTP server that passes the harness's requests on to a model's server.

        Args:
            folder: the folder of the trial.
            ids: the ids of the trial.
            ports: the port of each gateway inside the sandbox.
        """
        if not self._configs:
            return TrialServices((), {})
        from relab.experiments.trial.model_answers import CacheKeys  # noqa: PLC0415 loaded only where configured
        from relab.experiments.trial.model_gateway import ModelGateway  # noqa: PLC0415 loaded only where configured

        with self._lock:
            self._starts[ids.trial_id] += 1
            start = self._starts[ids.trial_id]
        made, listeners, environment = [], [], {}
        for config, cache, port in zip(self._configs, self._caches, ports, strict=True):
            keys = None
            if config.cache is not None and cache is not None:
                keys = CacheKeys(config.upstream, config.cache.scope, ids, start)
            gateway = ModelGateway(
                config.upstream,
                folder.root / LOG,
                keys=keys,
                cache=cache,
                is_clean=lambda body: not self._redactor.occurs_in(body),
                clock=self._clock,
            )
            made.append(gateway)
            listeners.append(Listener(port, gateway.serve))
            environment[config.variable] = f"http://127.0.0.1:{{port:{port}}}{config.path}"
        with self._lock:
            self._open[ids.trial_id] = made
        return TrialServices(listeners, environment)

    def close(self, folder: TrialFolder) -> dict[str, int]:
        """Forget a trial's gateways; return `{metric: number}` about the requests since its last start.

        A gateway is an HTTP server that passes requests on to a model's server. The metrics are the number of all
        requests and, with a cache, the numbers of cache hits and cache misses.

        The result is empty if the trial has no gateway. This method does not stop the servers; the sandbox stops them.
        """
        with self._lock:
            gateways = self._open.pop(folder.root.name, [])
        if not gateways:
            return {}
        counts: Counter[str] = sum((gateway.counts for gateway in gateways), Counter())
        found = {"model_requests": counts.total()}
        if any(cache is not None for cache in self._caches):
            found |= {"model_cache_hits": counts["hit"], "model_cache_misses": counts["miss"]}
        return found

    def _cache_of(self, config: ModelGatewayConfig, folder: Path | None) -> AnswerCache | None:
        if config.cache is None or folder is None:
            return None
        from relab.experiments.trial.answer_cache import FOLDER, AnswerCache  # noqa: PLC0415 loaded only where configured

        return AnswerCache(
            folder / FOLDER,
            ttl_s=config.cache.ttl_hours * _HOUR_S,
            max_bytes=int(config.cache.max_mb * _MB),
            clock=self._clock,
        )
