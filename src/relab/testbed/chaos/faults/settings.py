"""Faults of the target's configuration: a new version of its settings, or changed flags."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final, Literal

from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.manager import Make
from relab.testbed.chaos.models import Fault, Kind, Parameters, Symptom

DEPLOYER: Final = "deploy"
"""The author of new versions in the settings history."""


class WrongSetting(Parameters):
    """What is wrong with the new version: a pool that is too small, or a port where no database is."""

    setting: Literal["pool", "port"] = "pool"


class WrongFlag(Parameters):
    """Which flag is wrong: too little is let in, or searches go to the slower index."""

    flag: Literal["concurrency", "route"] = "concurrency"


class SettingsChanged:
    """A new version of the target's settings, with which the target was restarted.

    Args:
        changes: by section and name.
        note: of the version, in the words of its supposed author.
    """

    def __init__(self, ground: Ground, changes: Mapping[str, Mapping[str, Any]], note: str) -> None:
        self._ground = ground
        self._changes = changes
        self._note = note
        self._before: dict[str, dict[str, Any]] = {}

    def set_level(self, level: float) -> None:
        """Create the version and restart the target with it."""
        if level > 0:
            now = self._ground.plant.settings()
            self._before = {
                section: {name: now[section][name] for name in values} for section, values in self._changes.items()
            }
            self._ground.plant.change_settings(self._changes, self._note, author=DEPLOYER)

    def end(self) -> None:
        """Restore each value that is still the one set here."""
        now = self._ground.plant.settings()
        back = {
            section: {name: before[name] for name in before if now[section][name] == self._changes[section][name]}
            for section, before in self._before.items()
        }
        if any(back.values()):
            self._ground.plant.change_settings(back, "reverted")


class FlagsChanged:
    """Changed flags of the target."""

    def __init__(self, ground: Ground, changes: Mapping[str, Mapping[str, Any]]) -> None:
        self._ground = ground
        self._changes = changes
        self._before: dict[str, dict[str, Any]] = {}
        self._made: dict[str, Any] = {}

    def set_level(self, level: float) -> None:
        """Set the flags."""
        if level > 0:
            now = self._ground.plant.flags()
            self._before = {
                section: {name: now[section][name] for name in values} for section, values in self._changes.items()
            }
            self._made = self._ground.plant.set_flags(self._changes)

    def end(self) -> None:
        """Restore the flags, if their version is still the one set here."""
        now = self._ground.plant.flags()
        if self._made and now["version"] == self._made["version"]:
            self._ground.plant.set_flags(self._before)


_CRASH: Final = Fault(
    "crash_loop", "A new version of the settings cannot be used", Kind.FAULT, Parameters,
    Symptom(
        "workers end again and again",
        "they end by themselves with an exit code above 0 right after their start, since a new version of the settings",
        ("oom", "hang"),
    ),
    repairs=("roll-back-settings",),
    harms=("restart-target", "restart-database", "raise-limit"),
)  # fmt: skip
_SETTING: Final = Fault(
    "bad_setting", "A new version of the settings does not suit the traffic", Kind.FAULT, WrongSetting,
    Symptom(
        "requests that need the database fail",
        "they do since a new version of the settings, whose change says why; server and path are well",
        ("db_pool", "bad_credential", "database_refuse", "db_slow_query"),
    ),
    repairs=("roll-back-settings",),
    harms=("restart-target", "restart-database", "restart-links"),
)  # fmt: skip
_CREDENTIAL: Final = Fault(
    "bad_credential", "The target has a password that the database does not know", Kind.FAULT, Parameters,
    Symptom(
        "every request that needs the database fails at once",
        "SQLSTATE 28P01 since a new version of the settings that changes a password",
        ("db_down", "db_connections", "database_refuse", "bad_setting"),
    ),
    repairs=("roll-back-settings", "rotate-credential"),
    harms=("restart-target", "restart-database"),
)  # fmt: skip
_FLAGS: Final = Fault(
    "bad_flags", "The target's flags do not suit the traffic", Kind.FAULT, WrongFlag,
    Symptom(
        "requests are turned away, or searches are slower",
        "the flags in force differ from those of before: a small limit that is always reached, or one index for all",
        ("search_index", "cpu_saturation", "db_pool"),
    ),
    repairs=("set-flow-control", "set-search-route"),
    harms=("restart-target", "restart-cache", "roll-back-settings"),
)  # fmt: skip

_WRONG: Final[Mapping[str, tuple[Mapping[str, Mapping[str, Any]], str]]] = {
    "pool": ({"database": {"pool_size": 1, "max_overflow": 0, "pool_timeout_s": 0.002}}, "release 4.12.0: fewer connections"),
    # Port 9 is `discard`: no server listens there.
    "port": ({"database": {"port": 9}}, "release 4.12.0: database moved"),
}  # fmt: skip
_FLAG: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "concurrency": {"control": {"policy": "fixed", "max_concurrency": 1, "target_p95_ms": 1}},
    "route": {"routing": {"enabled": False, "manual_backend": "qdrant"}},
}


def faults(ground: Ground) -> dict[str, tuple[Fault, Make]]:
    """Return the faults of settings and flags."""

    def wrong_setting(given: Parameters) -> SettingsChanged:
        assert isinstance(given, WrongSetting)
        return SettingsChanged(ground, *_WRONG[given.setting])

    def wrong_flag(given: Parameters) -> FlagsChanged:
        assert isinstance(given, WrongFlag)
        return FlagsChanged(ground, _FLAG[given.flag])

    unusable = {"database": {"pool_size": "auto"}}
    found: list[tuple[Fault, Make]] = [
        (_CRASH, lambda _: SettingsChanged(ground, unusable, "release 4.12.0: pool sized by itself")),
        (_SETTING, wrong_setting),
        (
            _CREDENTIAL,
            lambda _: SettingsChanged(
                ground, {"database": {"password": secrets.token_urlsafe(18)}}, "password renewed"
            ),
        ),
        (_FLAGS, wrong_flag),
    ]
    return {fault.name: (fault, make) for fault, make in found}
