"""Connects actions to one testbed: to its supervisor, database and cache, and to the target's flags."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import redis
from psycopg.rows import dict_row

from relab.core.errors import RelabError, UnavailableError
from relab.testbed.supervisor_client import SupervisorClient

_SUPERVISOR_S: Final = 40.0
_READY_S: Final = 15.0
_DATABASE_S: Final = 3
_NO_ROOM: Final = "too many clients"
_NO_ROOM_PAUSE_S: Final = 0.05
_NO_ROOM_TRIES: Final = 60
_STATEMENT_MS: Final = 30_000
_CACHE_S: Final = 2.0
_TARGET_S: Final = 5.0
_MAX_SHOWN: Final = 500
AUTHOR: Final = "operator"
"""The author of changes of the settings, as the settings history shows it."""


class PlantError(UnavailableError):
    """A component of the testbed (such as its database) did not answer or rejected a request; the message names it."""

    code = "not_done"


class Plant:
    """Gives operators access to one testbed: its supervisor, database, cache and the target's flags.

    Args:
        control: the path of the supervisor's socket.
        target_url: the address of the target.
        pause: waits for a number of seconds between two attempts to connect to the database.

    All methods raise `PlantError` if a part does not answer, or rejects the request.
    """

    def __init__(self, control: Path, target_url: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._supervisor = SupervisorClient(control, within_s=_SUPERVISOR_S)
        self.target_url = target_url
        # Loading the certificates takes longer than starting the rest of the server, so load them only for TLS.
        is_secure = target_url.startswith("https:")
        self._target = httpx.Client(base_url=target_url, timeout=_TARGET_S, trust_env=False, verify=is_secure)
        self._pause = pause

    def close(self) -> None:
        """Close the HTTP clients for the supervisor and the target."""
        self._supervisor.close()
        self._target.close()

    def components(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the status of components, as JSON objects with the fields of `ComponentStatus`.

        Args:
            name: the name of a component or a group; None for all components. An unknown name gives an empty list.
        """
        found: list[dict[str, Any]] = self._ask("GET", "/components")["components"]
        if name is None:
            return found
        return [item for item in found if name in (item["name"], item["group"])]

    def limits_available(self) -> dict[str, str | None]:
        """Return how this machine enforces each resource limit, as `{resource limit: method}`.

        The method is `prlimit`, `cgroup1` or `cgroup2` (control groups of version 1 or 2), or None for a limit that
        this machine cannot enforce.
        """
        return dict(self._ask("GET", "/components")["limits_available"])

    def restart(self, name: str) -> list[dict[str, Any]]:
        """Restart a component or a group, wait until it is ready, and return the status of each restarted component.

        A status is a JSON object with the fields of `ComponentStatus`.

        Raises:
            PlantError: the components are not ready within `_READY_S` seconds.
        """
        answer = self._ask("POST", f"/components/{name}/restart", params={"wait_s": _READY_S})
        if not answer["ready"]:
            raise PlantError(f"{name} was restarted and is not ready after {_READY_S:g} s.")
        return list(answer["components"])

    def stop(self, name: str) -> None:
        """Kill the component with this name, or all components of the group with this name.

        They stay stopped until `start` is called.
        """
        self._ask("POST", f"/components/{name}/stop", params={"force": True})

    def start(self, name: str) -> None:
        """Start a stopped component or group, and wait at most `_READY_S` seconds until it is ready.

        If it is not ready then, return without an error.
        """
        self._ask("POST", f"/components/{name}/start", params={"wait_s": _READY_S})

    def signal(self, name: str, signal: str) -> None:
        """Send a signal, such as `STOP`, to the main process of a component, or of each component of a group."""
        self._ask("POST", f"/components/{name}/signal", {"signal": signal})

    def limit(self, name: str, limits: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Replace all resource limits of a component; return a list with the component's status as the only item.

        Args:
            name: the name of the component.
            limits: the new limits, with the fields of `ResourceLimits`; an absent limit is removed.
        """
        return list(self._ask("PUT", f"/components/{name}/limits", dict(limits))["components"])

    def settings(self) -> dict[str, Any]:
        """Return the target's current settings as nested JSON, by section and name; secrets are included."""
        return self._ask("GET", "/settings", params={"reveal": True})

    def history(self) -> list[dict[str, Any]]:
        """Return all versions of the target's settings, oldest first, with the fields of `SettingsVersion`.

        Secrets are masked.
        """
        return list(self._ask("GET", "/settings/history")["versions"])

    def change_settings(
        self, changes: Mapping[str, Any], note: str, *, author: str = AUTHOR, restart: bool = True
    ) -> int:
        """Create a new version of the target's settings; return the number of the new version.

        Args:
            changes: new values by section and name, merged into the current settings.
            note: the reason for the change, for the settings history.
            author: the author of the change, for the settings history.
            restart: whether to restart the target, so that it reads the new settings.
        """
        body = {"author": author, "note": note, "changes": dict(changes), "restart": restart}
        return int(self._ask("PUT", "/settings", body)["version"]["version"])

    def roll_back(self, version: int | None, note: str) -> int:
        """Restore an older version of the settings as a new version, and restart the target.

        Return the number of the new version.

        Args:
            version: the number of the older version; None for the one before the current version.
            note: the reason, for the settings history.
        """
        body = {"author": AUTHOR, "note": note, "version": version, "restart": True}
        return int(self._ask("POST", "/settings/rollback", body)["version"]["version"])

    def access(self) -> dict[str, Any]:
        """Return the address and the operators' account of both servers, as `{"database": {...}, "cache": {...}}`.

        Each server has `host`, `port`, `user`, `password`, `name` (of the PostgreSQL database; unused for the cache)
        and `paths`: the ports of the target's proxies to the server, as `{"primary": port, "secondary": port}`.
        """
        return self._ask("GET", "/access")

    def flags(self) -> dict[str, Any]:
        """Return the target's flags as `{section: {name: value}}`, with the flags' version under the key `version`.

        The section `control` has the flags of the flow control; `routing` has the flags that choose the index for
        searches.
        """
        return self._flags("GET")

    def set_flags(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Change the flags in `document` (`{section: {name: value}}`), no others; return all flags after the change."""
        token = self.settings().get("token")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self._flags("POST", json=dict(document), headers=headers)

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        """Return a context manager that gives a database connection in autocommit mode.

        The connection uses the operators' account. The database reserves some connections for this account.
        """
        known = self.access()["database"]
        try:
            with self._connect(known) as connection:
                yield connection
        except psycopg.Error as error:
            raise PlantError(f"The database: {str(error).strip() or type(error).__name__}") from error

    def _connect(self, known: Mapping[str, Any]) -> psycopg.Connection[dict[str, Any]]:
        """Connect to the database as an operator, with `known["host"]`, `port`, `user`, `password` and `name`.

        While all connections are in use, even the reserved ones, retry: at most `_NO_ROOM_TRIES` attempts.
        """
        # Refused clients also occupy the reserved slots for some milliseconds, until they are authenticated.
        for left in reversed(range(_NO_ROOM_TRIES)):
            try:
                return psycopg.connect(
                    host=known["host"],
                    port=known["port"],
                    user=known["user"],
                    password=known["password"],
                    dbname=known["name"],
                    autocommit=True,
                    connect_timeout=_DATABASE_S,
                    options=f"-c statement_timeout={_STATEMENT_MS} -c lock_timeout=5000",
                    application_name="operator",
                    row_factory=dict_row,
                )
            except psycopg.OperationalError as error:
                if not left or _NO_ROOM not in str(error):
                    raise
            self._pause(_NO_ROOM_PAUSE_S)
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def cache(self) -> Iterator[redis.Redis]:
        """Return a context manager that gives a cache client, which logs in with the operators' account.

        The target has another account, so this client works even if the password of the target's account has changed.
        """
        known = self.access()["cache"]
        client = redis.Redis(
            host=known["host"],
            port=known["port"],
            username=known["user"],
            password=known["password"],
            socket_timeout=_CACHE_S,
            socket_connect_timeout=_CACHE_S,
            decode_responses=True,
        )
        try:
            yield client
        except redis.RedisError as error:
            raise PlantError(f"The cache: {error}") from error
        finally:
            client.close()

    def _flags(self, method: str, **more: Any) -> dict[str, Any]:
        try:
            response = self._target.request(method, "/ops/flags", **more)
        except httpx.HTTPError as error:
            raise PlantError(f"The target: {type(error).__name__}: {error}") from error
        if not response.is_success:
            raise PlantError(f"The target answers {response.status_code}: {response.text[:_MAX_SHOWN]}")
        found: dict[str, Any] = response.json()
        return found

    def _ask(
        self, method: str, path: str, body: Any = None, *, params: Mapping[str, str | float | bool] | None = None
    ) -> dict[str, Any]:
        try:
            return self._supervisor.ask(method, path, body, params=params)
        except RelabError as error:
            raise PlantError(f"The supervisor: {error.message}") from error
