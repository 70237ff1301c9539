"""Sanitization profiles: the environment that each gives to trials, and the violations that it reports."""

from __future__ import annotations

import pytest

from relab.experiments.config.sanitization import EFFECTS, Profile, base_environment, violations
from relab.experiments.config.state_policy import StatePolicy
from relab.experiments.sandbox.protocol import NetworkMode

HOST = {
    "PATH": "/usr/bin",
    "HOME": "/home/me",
    "USER": "me",
    "LANG": "de_DE.UTF-8",
    "TZ": "Europe/Berlin",
    "TMPDIR": "/mnt/tmp",
    "OPENAI_API_KEY": "sk-123456",
    "LD_PRELOAD": "/x.so",
    "PYTHONPATH": "/x",
}


def test_every_profile_is_described() -> None:
    assert set(EFFECTS) == set(Profile)
    assert all(effect.summary.endswith(".") for effect in EFFECTS.values())


@pytest.mark.parametrize("profile", [Profile.HERMETIC_FUNCTIONAL, Profile.HERMETIC_FUNCTIONAL_V2])
def test_a_hermetic_environment_is_the_same_on_every_machine(profile: Profile) -> None:
    expected = {
        "PATH": "/usr/bin",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "HOME": "/h",
        "TMPDIR": "/t",
        "XDG_CACHE_HOME": "/h/.cache",
        "XDG_CONFIG_HOME": "/h/.config",
    }

    assert base_environment(profile, HOST, "/h", "/t") == expected
    assert base_environment(profile, {"PATH": "/usr/bin"}, "/h", "/t") == expected


def test_profile_none_passes_only_listed_variables() -> None:
    assert base_environment(Profile.NONE, HOST, "/h", "/t") == {
        name: HOST[name] for name in ("PATH", "LANG", "TZ", "HOME", "USER", "TMPDIR")
    }
    assert base_environment(Profile.NONE, {}, "/h", "/t") == {}


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("state", StatePolicy)
@pytest.mark.parametrize("network", NetworkMode)
def test_only_the_strict_profile_reports_open_network_and_kept_state(
    profile: Profile, state: StatePolicy, network: NetworkMode
) -> None:
    strict = profile is Profile.HERMETIC_FUNCTIONAL_V2
    found = violations(profile, state_policy=state, network_effective=network.value)

    assert ("trials have full network access" in found) == (strict and network is NetworkMode.FULL)
    carries = f"state policy {state} carries state from trial to trial"
    assert (carries in found) == (strict and state is not StatePolicy.ISOLATE_PER_TRIAL)
    assert len(found) <= 2
