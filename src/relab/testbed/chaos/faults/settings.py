"""Faults of the target's configuration: a new version of its settings, or changed flags."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from random import Random
from typing import Any, ClassVar, Final, Literal

from relab.testbed.chaos.faults.base import Fault, Given
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.models import FaultParameters, Symptom
from relab.testbed.chaos.presence import ChangedDocument, Presence

Changes = Mapping[str, Mapping[str, Any]]
"""New values, by section and name."""
DEPLOYER: Final = "deploy"
"""The author of new versions in the settings history."""


class WrongSetting(FaultParameters):
    """Parameters of the fault `bad_setting`.

    Attributes:
        setting: which setting is wrong: `pool` (the connection pool is too small), or `port` (no database listens
            there).
    """

    setting: Literal["pool", "port"] = "pool"


class WrongFlag(FaultParameters):
    """Parameters of the fault `bad_flags`.

    Attributes:
        flag: which flag is wrong: `concurrency` (too few requests are admitted), or `route` (all searches go to the
            slower index).
    """

    flag: Literal["concurrency", "route"] = "concurrency"


class SettingsChanged:
    """Injector that creates a version of the target's settings with harmful values, and restarts the target with it.

    Args:
        ground: access to the testbed's processes, database, cache, network and flags.
        changes: the harmful values, by section and name.
        note: the reason for the version, as the settings history shows it.
    """

    def __init__(self, ground: Ground, changes: Changes, note: str) -> None:
        self._ground = ground
        self._changes = changes
        self._note = note
        self._before: dict[str, dict[str, Any]] = {}

    def set_level(self, level: float) -> None:
        """Create a version of the target's settings with the fault's harmful values, and restart the target with it.

        Do nothing if the strength `level` is 0.
        """
        if level > 0:
            now = self._ground.plant.settings()
            self._before = {
                section: {name: now[section][name] for name in values} for section, values in self._changes.items()
            }
            self._ground.plant.change_settings(self._changes, self._note, author=DEPLOYER)

    def end(self) -> None:
        """Restore the earlier value of each setting that still has this injector's value."""
        now = self._ground.plant.settings()
        back = {
            section: {name: before[name] for name in before if now[section][name] == self._changes[section][name]}
            for section, before in self._before.items()
        }
        if any(back.values()):
            self._ground.plant.change_settings(back, "reverted")


class FlagsChanged:
    """Injector that sets wrong values of the target's flags.

    Args:
        ground: access to the testbed's processes, database, cache, network and flags.
        changes: new values, by section and name.
    """

    def __init__(self, ground: Ground, changes: Changes) -> None:
        self._ground = ground
        self._changes = changes
        self._before: dict[str, dict[str, Any]] = {}
        self._made: dict[str, Any] = {}

    def set_level(self, level: float) -> None:
        """Set the target's flags to this injector's wrong values; do nothing if the strength `level` is 0."""
        if level > 0:
            now = self._ground.plant.flags()
            self._before = {
                section: {name: now[section][name] for name in values} for section, values in self._changes.items()
            }
            self._made = self._ground.plant.set_flags(self._changes)

    def end(self) -> None:
        """Restore the earlier flags. If any flag was changed since this injector set the wrong values, do nothing."""
        now = self._ground.plant.flags()
        if self._made and now["version"] == self._made["version"]:
            self._ground.plant.set_flags(self._before)


class SettingsFault(Fault[Given]):
    """Base of faults in which a new version of the settings breaks the target.

    The fault is present as long as every changed setting keeps the wrong value.
    """

    repairs: tuple[str, ...] = ("roll-back-settings",)

    def presence(self, ground: Ground, _given: Given) -> Presence:
        """Return an object that tests whether all settings changed by the fault still have the wrong values.

        `ground` gives access to the testbed's components.
        """
        return ChangedDocument(ground.plant.settings)


class CrashLoopFault(SettingsFault[FaultParameters]):
    """The fault `crash_loop`: the target cannot start, because a new version of its settings is invalid."""

    name = "crash_loop"
    title = "A new version of the settings is invalid"
    cause = "crash_loop"
    parameters = FaultParameters
    symptom = Symptom(
        "workers end again and again",
        "they end by themselves with an exit code above 0 right after their start, since a new version of the settings",
        ("oom", "hang"),
    )
    harms = ("restart-target", "restart-database", "raise-limit")

    def injector(self, ground: Ground, _given: FaultParameters) -> SettingsChanged:
        """Return an injector that sets one setting to a value of the wrong type.

        `ground` gives access to the testbed's components.
        """
        return SettingsChanged(ground, {"database": {"pool_size": "auto"}}, "release 4.12.0: pool sized by itself")


class BadSettingFault(SettingsFault[WrongSetting]):
    """The fault `bad_setting`: the target's new settings are valid, but make requests that need the database fail."""

    name = "bad_setting"
    title = "A new version of the settings does not suit the traffic"
    cause = "bad_setting"
    parameters = WrongSetting
    symptom = Symptom(
        "requests that need the database fail",
        "they fail since a new version of the settings, whose changes explain it; server and path are healthy",
        ("db_pool", "bad_credential", "database_refuse", "db_slow_query"),
    )
    harms = ("restart-target", "restart-database", "restart-links")
    _WRONG: ClassVar[Mapping[str, tuple[Changes, str]]] = {
        "pool": (
            {"database": {"pool_size": 1, "max_overflow": 0, "pool_timeout_s": 0.002}},
            "release 4.12.0: fewer connections",
        ),
        # Port 9 is `discard`: no server listens there.
        "port": ({"database": {"port": 9}}, "release 4.12.0: database moved"),
    }

    def injector(self, ground: Ground, given: WrongSetting) -> SettingsChanged:
        """Return an injector that sets the harmful values that `given.setting` selects.

        `pool`: a connection pool that is too small. `port`: a port on which no database listens. `ground` gives access
        to the testbed's components.
        """
        return SettingsChanged(ground, *self._WRONG[given.setting])

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `setting`: `pool` (a too small connection pool) or `port` (a wrong port)."""
        return {"setting": rng.choice(("pool", "port"))}


class BadCredentialFault(SettingsFault[FaultParameters]):
    """The fault `bad_credential`: the database rejects the password in a new version of the target's settings."""

    name = "bad_credential"
    title = "The target has a password that the database rejects"
    cause = "database_credential"
    parameters = FaultParameters
    symptom = Symptom(
        "every request that needs the database fails at once",
        "SQLSTATE 28P01 since a new version of the settings that changes a password",
        ("db_down", "db_connections", "database_refuse", "bad_setting"),
    )
    repairs = ("roll-back-settings", "rotate-credential")
    harms = ("restart-target", "restart-database")

    def injector(self, ground: Ground, _given: FaultParameters) -> SettingsChanged:
        """Return an injector that sets a new password in the target's settings, but not in the database.

        `ground` gives access to the testbed's components.
        """
        return SettingsChanged(ground, {"database": {"password": secrets.token_urlsafe(18)}}, "password renewed")


class BadFlagsFault(Fault[WrongFlag]):
    """The fault `bad_flags`: the target's flags are valid, but make it reject requests or search slowly."""

    name = "bad_flags"
    title = "The target's flags do not suit the traffic"
    cause = "bad_flags"
    parameters = WrongFlag
    symptom = Symptom(
        "requests are rejected, or searches are slower",
        "the current flags differ from the earlier ones: a small limit that is always reached, or one index for all",
        ("search_index", "cpu_saturation", "db_pool"),
    )
    repairs = ("set-flow-control", "set-search-route")
    harms = ("restart-target", "restart-cache", "roll-back-settings")
    _WRONG: ClassVar[Mapping[str, Changes]] = {
        "concurrency": {"control": {"policy": "fixed", "max_concurrency": 1, "target_p95_ms": 1}},
        "route": {"routing": {"enabled": False, "manual_backend": "qdrant"}},
    }

    def injector(self, ground: Ground, given: WrongFlag) -> FlagsChanged:
        """Return an injector that sets the wrong flags that `given.flag` selects.

        `concurrency`: far too few requests are admitted. `route`: all searches use the slower index. `ground` gives
        access to the testbed's components.
        """
        return FlagsChanged(ground, self._WRONG[given.flag])

    def presence(self, ground: Ground, _given: WrongFlag) -> Presence:
        """Return an object that tests whether all flags changed by the fault still have the wrong values.

        `ground` gives access to the testbed's components.
        """
        return ChangedDocument(ground.plant.flags)

    def draw(self, _rng: Random) -> dict[str, Any]:
        """Return `{"flag": "concurrency"}`, because users would hardly notice the other wrong flag, `route`."""
        # A wrong `route` costs users only a few milliseconds, which they do not notice.
        return {"flag": "concurrency"}
