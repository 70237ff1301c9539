"""Actions on the target's settings: restore an earlier version, replace a password, use another network path."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Literal

from psycopg import sql
from pydantic import Field

from relab.testbed.actions.models import Action, ActionClass, ActionParameters, BlastRadius, PreconditionError
from relab.testbed.actions.operations.base import PlantOperation
from relab.testbed.actions.plant import PlantError


class Version(ActionParameters):
    """Selects the version of the settings to restore, by its number; by default, the version before the current one."""

    version: int | None = Field(None, ge=1)


class Credential(ActionParameters):
    """Selects the dependency (database or cache) that gets a new password."""

    dependency: Literal["database", "cache"]


class Path(ActionParameters):
    """Selects a dependency, and the network path over which the target shall connect to the dependency from now on.

    Each dependency has two paths, `primary` and `secondary`, each with a proxy of its own.
    """

    dependency: Literal["database", "cache"]
    path: Literal["primary", "secondary"] = "secondary"


class RollBackSetting(PlantOperation[Version]):
    """The action that rolls the target's settings back to an earlier version and restarts the target."""

    ACTION = Action(
        "roll-back-settings", "Roll the settings of the target back", ActionClass.SETTING,
        BlastRadius.WHOLE_SERVICE, Version, "the target is restarted with the settings of that version",
        ("there is an earlier version",), "roll-back-settings", part="target",
    )  # fmt: skip

    def _find(self, given: Version) -> dict[str, Any]:
        history = self.plant.history()
        versions = [item["version"] for item in history]
        if len(versions) < 2:
            raise PreconditionError("The settings were never changed.")
        if given.version is not None and given.version not in versions[:-1]:
            raise PreconditionError(f"There is no earlier version {given.version}; there are {versions[:-1]}.")
        last = history[-1]
        to = versions[-2] if given.version is None else given.version
        return {"version": last["version"], "changed_by": last["author"], "changes": last["changes"], "to": to}

    def _do(self, _given: Version, before: Mapping[str, Any]) -> dict[str, Any]:
        return {"version": self.plant.roll_back(before["to"], "rolled back by an operator")}

    def _take_back(self, _given: Version, before: Mapping[str, Any]) -> dict[str, Any]:
        return {"version": self.plant.roll_back(before["version"], "the rollback was undone")}


class RotateCredential(PlantOperation[Credential]):
    """The action that sets a new password in a dependency, then in the target's settings, and restarts the target.

    If the change of the settings fails, the target cannot log in to the dependency until this action is repeated and
    succeeds.
    """

    ACTION = Action(
        "rotate-credential", "Set a new password for the target in a dependency", ActionClass.SETTING,
        BlastRadius.WHOLE_SERVICE, Credential, "the dependency accepts the password that the target sends",
        also=frozenset(("target",)),
    )  # fmt: skip

    def _find(self, given: Credential) -> dict[str, Any]:
        return {"user": self.plant.settings()[given.dependency].get("user"), "dependency": given.dependency}

    def _do(self, given: Credential, before: Mapping[str, Any]) -> dict[str, Any]:
        password = secrets.token_urlsafe(18)
        if given.dependency == "database":
            with self.plant.database() as connection:
                user, text = sql.Identifier(before["user"]), sql.Literal(password)
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(user, text))
        else:
            with self.plant.cache() as cache:
                cache.config_set("requirepass", password)
        version = self.plant.change_settings({given.dependency: {"password": password}}, "password rotated")
        return {"version": version}


class UsePath(PlantOperation[Path]):
    """The action that makes the target connect to a dependency over another network path, and restarts the target."""

    ACTION = Action(
        "use-path", "Connect to a dependency over another network path", ActionClass.SETTING, BlastRadius.WHOLE_SERVICE, Path,
        "the target is restarted and connects over this path", ("the target uses another path now",), "use-path",
        also=frozenset(("target",)),
    )  # fmt: skip

    def _find(self, given: Path) -> dict[str, Any]:
        paths = self.plant.access()[given.dependency]["paths"]
        port = self.plant.settings()[given.dependency]["port"]
        current = next((name for name, number in paths.items() if number == port), None)
        if current == given.path:
            raise PreconditionError(
                f"The target already connects to the {given.dependency} over its {given.path} path."
            )
        return {"path": current, "port": port}

    def _do(self, given: Path, _before: Mapping[str, Any]) -> dict[str, Any]:
        return self._use(given, self.plant.access()[given.dependency]["paths"][given.path])

    def _take_back(self, given: Path, before: Mapping[str, Any]) -> dict[str, Any]:
        return self._use(given, before["port"])

    def _use(self, given: Path, port: int) -> dict[str, Any]:
        if self.plant.settings()[given.dependency]["port"] == port:
            raise PlantError(f"The target already connects to the {given.dependency} over this path.")
        version = self.plant.change_settings(
            {given.dependency: {"port": port}}, f"{given.dependency} over another path"
        )
        return {"version": version, "port": port}


OPERATIONS = (RollBackSetting, RotateCredential, UsePath)
