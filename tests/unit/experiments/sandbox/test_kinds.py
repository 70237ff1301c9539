"""Sandbox descriptors: each sandbox mode has one, and it matches the sandbox that the mode creates."""

from __future__ import annotations

import pytest

from relab.experiments.sandbox.kinds import KINDS, SandboxMode, SandboxOptions
from relab.experiments.sandbox.protocol import NetworkMode, SandboxLimits
from relab.experiments.schemas.documents import schema_named


def test_every_mode_has_a_descriptor() -> None:
    assert set(KINDS) == set(SandboxMode)


@pytest.mark.parametrize("mode", SandboxMode)
def test_sandbox_has_the_name_of_its_mode(mode: SandboxMode) -> None:
    options = SandboxOptions(run_id="run_1", network=NetworkMode.NONE, limits=SandboxLimits(), image="image:1")
    sandbox = mode.kind.make(options)

    assert sandbox.name == mode.value
    assert sandbox.image_digest is None


@pytest.mark.parametrize("mode", SandboxMode)
def test_descriptor_uses_values_of_the_contract(mode: SandboxMode) -> None:
    inventory, record = schema_named("state_inventory_v1"), schema_named("evidence_record_v1")
    enforcements = inventory["properties"]["network"]["properties"]["enforcement_effective"]["enum"]
    executors = record["properties"]["runtime"]["properties"]["executor"]["enum"]
    assert set(mode.kind.contract_enforcements.values()) <= set(enforcements)
    assert mode.kind.contract_executor in executors
    if mode.kind.runs_image:
        assert mode.kind.isolates
