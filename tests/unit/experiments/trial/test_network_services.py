"""The services of the runner in a trial's network: each has a port of its own."""

from __future__ import annotations

from pathlib import Path

from relab.experiments.trial.network_services import TrialNetwork
from relab.experiments.trial.redaction import Redactor
from relab.experiments.trial.trial_folder import TrialFolder
from support.experiments.configs import IDS, config


def test_gateways_get_different_ports_although_one_is_taken(tmp_path: Path) -> None:
    gateways = [{"variable": f"MODEL_{number}", "upstream": "http://127.0.0.1:4480/v1"} for number in range(3)]
    found = config(
        runtime__sandbox={"mode": "bwrap"},
        runtime__network={"mode": "allowlist_enforced", "allowed_hosts": ["127.0.0.1:4480", "127.0.0.1:4482"]},
        runtime__model_gateways=gateways,
    )
    network = TrialNetwork(found, lambda *_: None, Redactor({}))

    services = network.services(TrialFolder(tmp_path / IDS.trial_id), IDS)

    places = [(listener.address, listener.port) for listener in services.listeners]
    assert len(places) == len(set(places))
    assert [services.environment[f"MODEL_{number}"] for number in range(3)] == [
        "http://127.0.0.1:{port:4481}/v1",
        "http://127.0.0.1:{port:4483}/v1",
        "http://127.0.0.1:{port:4484}/v1",
    ]
