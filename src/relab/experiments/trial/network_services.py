"""The runner's services in a trial's network: a trace receiver, proxies to permitted hosts, gateways to models."""

from __future__ import annotations

import itertools
import threading
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relab.experiments.config.models import ExperimentConfig, IntegrationLevel
from relab.experiments.models import TrialIds
from relab.experiments.sandbox.egress_rules import EgressRule
from relab.experiments.sandbox.protocol import Listener, NetworkMode
from relab.experiments.trial.agent_run import ENVIRONMENT, agent_run_id
from relab.experiments.trial.model_gateways import GATEWAY_PORT, ModelGateways, TrialServices
from relab.experiments.trial.otlp_exports import PORT, Encoding, SpanSink
from relab.experiments.trial.redaction import Redactor
from relab.experiments.trial.trial_folder import EXPORTS, TrialFolder

if TYPE_CHECKING:
    from relab.experiments.trial.otlp_receiver import OtlpReceiver

PROXY_PORT: Final = 3128
"""The proxy's port inside a sandbox; if the configuration lists this port on loopback, the next free port is used."""
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class TrialNetwork:
    """Creates the trace receiver, proxies and model gateways in the network of each trial; thread-safe.

    Args:
        config: the experiment, which says which services a trial needs.
        sink: is called with the body of each OTLP request, after the body was stored in the trial's folder.
        redactor: redacts secrets from the traces before they are stored.
        cache: the folder of the project's cache, for answers of models; None to store none.
    """

    def __init__(self, config: ExperimentConfig, sink: SpanSink, redactor: Redactor, cache: Path | None = None) -> None:
        self._config = config
        self._redactor = redactor
        self._sink = sink
        runtime = config.runtime
        self._has_proxy = runtime.network.mode is NetworkMode.ALLOWLIST and runtime.sandbox.mode.kind.isolates
        self._loopback = _loopback_of(runtime.network.allowed_hosts) if self._has_proxy else {}
        self._lock = threading.Lock()
        self._receivers: dict[str, OtlpReceiver] = {}
        self._gateways = ModelGateways(runtime.model_gateways, cache, redactor)

    def services(self, folder: TrialFolder, ids: TrialIds) -> TrialServices:
        """Create the trace receiver, proxies and model gateways for a trial that is started or resumed now.

        The result has their addresses inside the sandbox, and environment variables that give these addresses to the
        harness.
        """
        found: list[Listener] = []
        environment: dict[str, str] = {}
        runtime = self._config.runtime
        if runtime.harness.integration_level is IntegrationLevel.OTEL:
            from relab.experiments.trial.otlp_receiver import OtlpReceiver

            receiver = OtlpReceiver(folder.root / EXPORTS, self._sink, self._clean)
            port = self._free_port(PORT)
            with self._lock:
                self._receivers[folder.root.name] = receiver
            found.append(Listener(port, receiver.serve))
            environment |= {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{{port:{port}}}",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_RESOURCE_ATTRIBUTES": self._resource(ids),
            }
        # A plain local run shares this machine's network, so a proxy there would enforce nothing.
        if self._has_proxy:
            from relab.experiments.sandbox.egress_proxy import EgressProxy

            hosts, log = runtime.network.allowed_hosts, folder.root / "egress.jsonl"
            port = self._free_port(PROXY_PORT)
            found.append(Listener(port, EgressProxy(hosts, log).serve))
            for (address, number), destination in self._loopback.items():
                found.append(Listener(number, EgressProxy(hosts, log, destination=destination).serve, address))
            environment |= dict.fromkeys(_PROXY_VARIABLES, f"http://127.0.0.1:{port}")
            environment |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
        ports: list[int] = []
        for _ in runtime.model_gateways:
            ports.append(self._free_port(ports[-1] + 1 if ports else GATEWAY_PORT))
        gateways = self._gateways.open(folder, ids, ports)
        return TrialServices([*found, *gateways.listeners], environment | dict(gateways.environment))

    def model_use(self, folder: TrialFolder) -> dict[str, int]:
        """Return `{metric: number}` about a trial's requests to models since its last start; forget its gateways.

        A gateway is an HTTP server that passes requests on to a model's server. The metrics are the number of all
        requests and, with a cache, the numbers of cache hits and cache misses.

        A second call for the same trial returns an empty result.
        """
        return self._gateways.close(folder)

    def _free_port(self, wanted: int) -> int:
        """Return the lowest port, from `wanted` on, that a service of the runner can use inside the sandbox.

        The ports of the allowed loopback addresses are taken, because proxies listen at them inside the sandbox.
        """
        taken = {port for _, port in self._loopback}
        return next(port for port in itertools.count(wanted) if port not in taken)

    def _resource(self, ids: TrialIds) -> str:
        """Return the `OTEL_RESOURCE_ATTRIBUTES` that link a trial's spans to its experiment and its agent run."""
        attributes = {
            "service.name": self._config.experiment.id,
            "service.version": ids.variant_id,
            "deployment.environment.name": ENVIRONMENT,
            "relab.agent_run_id": agent_run_id(ids.run_id, ids.trial_id),
            "relab.task_id": ids.task_id,
        }
        return ",".join(f"{name}={urllib.parse.quote(value, safe='')}" for name, value in attributes.items())

    def _clean(self, body: bytes, encoding: Encoding) -> bytes:
        from relab.experiments.trial.span_redaction import clean_export

        return clean_export(body, encoding, self._redactor)

    def trace_ids(self, folder: TrialFolder) -> Sequence[str]:
        """Return the ids of the traces that a trial has sent since its last start; forget its OTLP receiver.

        Each attempt, and each resumption after a pause, has a receiver of its own. The result is empty if the trial has
        no receiver, as in a second call.
        """
        with self._lock:
            receiver = self._receivers.pop(folder.root.name, None)
        return list(receiver.trace_ids) if receiver is not None else []


def _loopback_of(allowed_hosts: Sequence[str]) -> dict[tuple[str, int], tuple[str, int]]:
    """Return `{(address, port) inside the sandbox: (host, port) on this machine}` for each allowed loopback address.

    Programs connect to loopback addresses directly, without the configured proxy. So the sandbox needs a proxy at each
    of these addresses, which passes connections on to this machine.
    """
    found: dict[tuple[str, int], tuple[str, int]] = {}
    for rule in map(EgressRule.parse, allowed_hosts):
        for address, port in rule.loopback_places():
            found.setdefault((address, port), (rule.host, port))
    return found
