"""What the runner serves inside of a trial's network: a receiver of traces, a proxy that lets the listed hosts through."""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Final

from relab.experiments.agent_run import ENVIRONMENT, agent_run_id
from relab.experiments.config import ExperimentConfig, IntegrationLevel, NetworkMode, SandboxMode
from relab.experiments.folders import TrialFolder
from relab.experiments.models import TrialIds
from relab.experiments.otlp_receiver import PORT, Encoding, OtlpReceiver, Sink
from relab.experiments.redaction import Redactor
from relab.experiments.rows import Services
from relab.experiments.sandbox.protocol import Listener
from relab.experiments.span_redaction import clean_export

PROXY_PORT: Final = 3128
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class TrialNetwork:
    """Makes the listeners of each trial.

    Args:
        config: says which there are.
        sink: where traces go beside the trial's folder.
        redactor: takes secrets out of them first.
    """

    def __init__(self, config: ExperimentConfig, sink: Sink, redactor: Redactor) -> None:
        self._config = config
        self._redactor = redactor
        self._sink = sink
        self._lock = threading.Lock()
        self._receivers: dict[str, OtlpReceiver] = {}

    def services(self) -> Services:
        """Return what trials ask for."""
        return Services(self.listeners, self.trace_ids)

    def listeners(self, folder: TrialFolder, ids: TrialIds) -> tuple[Sequence[Listener], Mapping[str, str]]:
        """Return what is served to a trial, and the variables that tell its harness of it."""
        found: list[Listener] = []
        told: dict[str, str] = {}
        runtime = self._config.runtime
        if runtime.harness.integration_level is IntegrationLevel.OTEL:
            receiver = OtlpReceiver(folder.root / "otlp", self._sink, self._clean)
            with self._lock:
                self._receivers[folder.root.name] = receiver
            found.append(Listener(PORT, receiver.serve))
            told |= {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{{port:{PORT}}}",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_RESOURCE_ATTRIBUTES": self._resource(ids),
            }
        # A plain local run shares this machine's network: a proxy there would only look like a fence.
        if runtime.network.mode is NetworkMode.ALLOWLIST and runtime.sandbox.mode is not SandboxMode.LOCAL:
            from relab.experiments.sandbox.egress_proxy import EgressProxy

            proxy = EgressProxy(runtime.network.allowed_hosts, folder.root / "egress.jsonl")
            found.append(Listener(PROXY_PORT, proxy.serve))
            told |= dict.fromkeys(_PROXY_VARIABLES, f"http://127.0.0.1:{PROXY_PORT}")
            told |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
        return found, told

    def _resource(self, ids: TrialIds) -> str:
        """Return what every span of a trial says of where it comes from, so that its traces lead back here."""
        attributes = {
            "service.name": self._config.experiment.id,
            "service.version": ids.variant_id,
            "deployment.environment.name": ENVIRONMENT,
            "relab.agent_run_id": agent_run_id(ids.run_id, ids.trial_id),
            "relab.task_id": ids.task_id,
        }
        return ",".join(f"{name}={urllib.parse.quote(value, safe='')}" for name, value in attributes.items())

    def _clean(self, body: bytes, encoding: Encoding) -> bytes:
        return clean_export(body, encoding, self._redactor)

    def trace_ids(self, folder: TrialFolder) -> Sequence[str]:
        """Return the ids of the traces that came from a trial, and forget it."""
        with self._lock:
            receiver = self._receivers.pop(folder.root.name, None)
        return list(receiver.trace_ids) if receiver is not None else []
