"""Sanitization profiles: the conditions that are made equal for all trials, so that only the variant differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from relab.experiments.config.state_policy import StatePolicy

BASE_VARIABLES: Final = ("PATH", "LANG", "LC_ALL", "TZ")
_NORMAL: Final = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0"}


class Profile(StrEnum):
    """The sanitization profiles, from the one with the fewest conditions to the strictest.

    A sanitization profile names conditions that must be equal for all trials, such as home folder, locale and network.
    `EFFECTS` lists the conditions of each profile.
    """

    NONE = "none"
    HERMETIC_FUNCTIONAL = "hermetic_functional"
    HERMETIC_FUNCTIONAL_V2 = "hermetic_functional_v2"


@dataclass(frozen=True, slots=True)
class ProfileEffect:
    """The conditions of a sanitization profile: conditions that must be equal for all trials.

    Attributes:
        summary: a description for the user.
        private_home: whether HOME, TMPDIR and the XDG folders are in the trial's own folder.
        normal_locale: whether time zone, locale and hash seed are the same on every machine.
        fresh_state: whether each trial must start from the project's snapshot alone. An experiment whose trials take
            over workspace and state from earlier trials violates the profile.
        closed_network: whether an experiment whose trials have full network access violates the profile.
    """

    summary: str
    private_home: bool
    normal_locale: bool
    fresh_state: bool
    closed_network: bool


EFFECTS: Final[Mapping[Profile, ProfileEffect]] = {
    Profile.NONE: ProfileEffect(
        "Only the environment is limited to what the configuration lists.", False, False, False, False
    ),
    Profile.HERMETIC_FUNCTIONAL: ProfileEffect(
        "Own home and temporary folder for each trial; UTC, C.UTF-8 and a fixed hash seed.", True, True, False, False
    ),
    Profile.HERMETIC_FUNCTIONAL_V2: ProfileEffect(
        "Like hermetic_functional; in addition, each trial must start from the project's snapshot alone, "
        "and full network access or state that is carried over is a violation.",
        True,
        True,
        True,
        True,
    ),
}


def contract_profile(profile: Profile) -> tuple[str, bool]:
    """Return `(name of a sanitization profile in a run's documents, whether this is the profile's real name)`.

    A sanitization profile names conditions that must be equal for all trials.

    The documents have the format of AgentLab (an experiment runner whose file formats relab keeps). This format allows
    only the name `hermetic_functional_v2`, so the documents use it for every profile. If it is not the real name, the
    documents have the real name under `ext`.
    """
    return Profile.HERMETIC_FUNCTIONAL_V2.value, profile is Profile.HERMETIC_FUNCTIONAL_V2


def base_environment(profile: Profile, host: Mapping[str, str], home: str, tmp: str) -> dict[str, str]:
    """Return the environment variables of every harness, besides those in the configuration.

    Args:
        profile: the sanitization profile (the conditions that must be equal for all trials). It decides whether home
            folder and locale are those of `host`.
        host: the runner's own environment.
        home: the trial's home folder, as a path inside the sandbox.
        tmp: the trial's temporary folder, as a path inside the sandbox.
    """
    effect = EFFECTS[profile]
    found = {name: host[name] for name in BASE_VARIABLES if name in host}
    if effect.normal_locale:
        found |= _NORMAL
    if effect.private_home:
        found |= {"HOME": home, "TMPDIR": tmp, "XDG_CACHE_HOME": f"{home}/.cache", "XDG_CONFIG_HOME": f"{home}/.config"}
    else:
        found |= {name: host[name] for name in ("HOME", "USER", "TMPDIR") if name in host}
    return found


def violations(profile: Profile, *, state_policy: StatePolicy, network_effective: str) -> list[str]:
    """Return a sentence for each condition of a sanitization profile that a trial violates; empty if it violates none.

    Args:
        profile: the sanitization profile: the conditions that must be equal for all trials.
        state_policy: says whether a trial takes over workspace and state from an earlier trial, and from which.
        network_effective: the network mode that the trial really has.
    """
    effect = EFFECTS[profile]
    found = []
    if effect.fresh_state and state_policy.carries_state:
        found.append(f"state policy {state_policy} carries state from trial to trial")
    if effect.closed_network and network_effective == "full":
        found.append("trials have full network access")
    return found
