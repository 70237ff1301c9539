"""Check whether a cause is still present, by means that a responder can neither see nor influence."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import redis

from relab.core.errors import RelabError
from relab.testbed.actions.operations.dependencies import INDEXES
from relab.testbed.actions.operations.jobs import REPORT_JOB
from relab.testbed.actions.plant import PlantError
from relab.testbed.chaos.faults.process_rows import Memory, Quota
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.manager import STEPS_OF_A_RAMP
from relab.testbed.errors import NotAnsweringError
from relab.testbed.target.process_figures import state_of

IsThere = Callable[[], bool]
_CACHE_S: Final = 1.0
_ASKS_WITHIN_S: Final = 2.0
_NO_ROOM_BYTES: Final = 1 << 20
_SPARE_DESCRIPTORS: Final = 8
_OTHER_CLIENTS: Final = {"db_connections": "reporting", "db_lock": "migration"}
_SERVERS: Final = {"db_down": "postgres", "cache_down": "redis"}
_CHANGED_SETTINGS: Final = frozenset(("crash_loop", "bad_setting", "bad_credential"))
_TRAFFIC: Final = frozenset(("traffic_spike", "retry_storm"))
_WINDOW_S: Final = 5
_TURNED_AWAY: Final = 0.02
_SLOWER: Final = 3.0
_SLOW_MS: Final = 100.0
"""The target is overloaded if more than `_TURNED_AWAY` of the requests are shed or abandoned, or if P95 exceeds
`_SLOWER` times the usual P95 by more than `_SLOW_MS`."""
_WORKERS_OWN: Final[Mapping[str, Callable[[Mapping[str, Any]], bool]]] = {
    "db_pool": lambda told: told["connections"] > 0,
    "memory_leak": lambda told: told["memory_mb"] > 0 or told["memory_growing"],
    "search_index": lambda told: told["search_index"] != "ready",
}


class Presence:
    """Checks whether one fault is still present.

    Create it before the fault is injected, and call `begun` right after the injection.

    Args:
        ground: the testbed, with the access that fault injection has.
        fault: name of the fault in the catalogue.
        given: the parameters of the fault.
    """

    def __init__(self, ground: Ground, fault: str, given: Mapping[str, Any]) -> None:
        self._ground = ground
        self._given = given
        self._before = _documents(ground, fault)
        self._has_come = False
        self._usual_p95_ms: float = _figures(ground)["p95_ms"] if fault in _TRAFFIC else 0.0
        self._made: dict[str, Any] = {}
        self._fault = fault
        self._is_there = self._question(fault)

    def begun(self) -> None:
        """Record the settings or flags that the fault has changed."""
        if self._fault in _CHANGED_SETTINGS or self._fault == "bad_flags":
            after = _documents(self._ground, self._fault)
            # Names without a dot are the number and the time of the version, which every change alters.
            self._made = {
                name: value for name, value in after.items() if "." in name and self._before.get(name) != value
            }

    def is_there(self) -> bool | None:
        """Return whether the fault is present; None if the component that must be queried does not answer."""
        try:
            return self._is_there()
        except (RelabError, OSError):
            return None

    def _question(self, fault: str) -> IsThere:
        ground = self._ground
        questions: dict[str, IsThere] = {
            "db_slow_query": lambda: bool(_missing_indexes(ground)),
            "cache_full": functools.partial(_is_cache_full, ground),
            "cache_auth": functools.partial(_refuses_the_target, ground),
            "hang": functools.partial(_is_stopped, ground),
            "descriptors": lambda: any(_is_out_of_descriptors(pid) for pid in _pids(ground)),
            "cpu_throttle": lambda: _is_limited(ground, "cpu_pct", self._quota()),
            "oom": lambda: _is_limited(ground, "memory_mb", Memory.model_validate(self._given).memory_mb),
            "disk_full": functools.partial(_is_full, ground),
            "bad_flags": lambda: self._is_still(_flat(ground.plant.flags())),
            "cpu_saturation": lambda: bool(ground.plant.components(REPORT_JOB)[0]["state"] == "running"),
        }
        questions |= {name: functools.partial(_any_worker, ground, says) for name, says in _WORKERS_OWN.items()}
        questions |= {name: functools.partial(_has_session, ground, who) for name, who in _OTHER_CLIENTS.items()}
        questions |= {name: functools.partial(_is_away, ground, server) for name, server in _SERVERS.items()}
        questions |= dict.fromkeys(_CHANGED_SETTINGS, lambda: self._is_still(_flat(ground.plant.settings())))
        # The service cannot measure the offered traffic. The fault counts as absent while flow control is changed
        # (contained), and as over when the target serves all requests without such a change.
        questions |= dict.fromkeys(_TRAFFIC, lambda: _control(ground) == self._before and self._is_crowded())
        dependency, _, _ = fault.partition("_")
        return questions.get(fault) or functools.partial(_is_path_bad, ground, dependency)

    def _is_crowded(self) -> bool:
        is_crowd = _is_overrun(_figures(self._ground), self._usual_p95_ms)
        self._has_come = self._has_come or is_crowd
        # The traffic was already started, but the target's metrics show it only after a moment.
        return is_crowd or not self._has_come

    def _is_still(self, now: Mapping[str, Any]) -> bool:
        """Return whether all values that the fault changed are unchanged; a repair need not restore all of them."""
        return all(now.get(name) == value for name, value in self._made.items())

    def _quota(self) -> float:
        """Return the highest limit that the fault sets, in percent: with a ramp that of the first step."""
        given = Quota.model_validate(self._given)
        level = given.intensity / STEPS_OF_A_RAMP if given.ramp_s else given.intensity
        return 100.0 - (100.0 - given.cpu_pct) * level


def _figures(ground: Ground) -> Mapping[str, float]:
    """Return the target's metrics of the last seconds: requests, shed, abandoned, and P95 in milliseconds.

    Raises:
        NotAnsweringError: the target does not return its metrics.
    """
    address = f"{ground.target_url}/api/v1/metrics"
    try:
        answer = httpx.get(address, params={"window_s": _WINDOW_S}, timeout=_ASKS_WITHIN_S, trust_env=False)
        found = answer.raise_for_status().json()
        return {name: float(found[name]) for name in ("requests", "shed", "abandoned", "p95_ms")}
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise NotAnsweringError("The target does not say how it serves those who come.") from error


def _is_overrun(figures: Mapping[str, float], usual_p95_ms: float) -> bool:
    """Return whether the target is overloaded: it sheds requests, clients abandon them, or they take long."""
    turned_away = figures["shed"] + figures["abandoned"]
    is_slow = figures["p95_ms"] > _SLOWER * usual_p95_ms + _SLOW_MS
    return is_slow or turned_away > _TURNED_AWAY * max(figures["requests"], 1.0)


def _documents(ground: Ground, fault: str) -> dict[str, Any]:
    if fault in _CHANGED_SETTINGS:
        return _flat(ground.plant.settings())
    if fault == "bad_flags":
        return _flat(ground.plant.flags())
    return _control(ground) if fault in _TRAFFIC else {}


def _control(ground: Ground) -> dict[str, Any]:
    return dict(ground.plant.flags()["control"])


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a nested document, by dotted name."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _any_worker(ground: Ground, says: Callable[[Mapping[str, Any]], bool]) -> bool:
    return any(says(ground.tell_worker(number, {"op": "status"})) for number in ground.workers())


def _is_away(ground: Ground, server: str) -> bool:
    return bool(ground.plant.components(server)[0]["state"] != "running")


def _has_session(ground: Ground, application: str) -> bool:
    with ground.plant.database() as connection:
        row = connection.execute(
            "SELECT count(*) AS found FROM pg_stat_activity WHERE application_name = %s", [application]
        ).fetchone()
    return row is not None and row["found"] > 0


def _missing_indexes(ground: Ground) -> set[str]:
    with ground.plant.database() as connection:
        rows = connection.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indisvalid"
        ).fetchall()
    return set(INDEXES) - {row["relname"] for row in rows}


def _is_path_bad(ground: Ground, dependency: str) -> bool:
    """Return whether the target's link to a dependency has a toxic, or the target's port belongs to no link."""
    port = ground.plant.settings()[dependency]["port"]
    links = asyncio.run(ground.links.links())
    used = [link for link in links if link.port == port]
    return not used or any(link.toxics for link in used)


def _is_cache_full(ground: Ground) -> bool:
    with ground.plant.cache() as cache:
        told: Any = cache.info("memory")
    return bool(told["maxmemory_policy"] == "noeviction" and told["used_memory"] >= told["maxmemory"] > 0)


def _refuses_the_target(ground: Ground) -> bool:
    """Return whether the cache rejects the password in the target's settings."""
    server, target = ground.plant.access()["cache"], ground.plant.settings()["cache"]
    client = redis.Redis(
        host=server["host"],
        port=server["port"],
        password=target["password"],
        socket_timeout=_CACHE_S,
        socket_connect_timeout=_CACHE_S,
    )
    try:
        client.ping()
    except (redis.AuthenticationError, redis.ResponseError):
        return True
    except redis.RedisError as error:
        raise PlantError(f"The cache: {error}") from error
    finally:
        client.close()
    return False


def _pids(ground: Ground) -> Iterator[int]:
    for item in ground.plant.components("target"):
        if item["pid"] is None:
            raise PlantError(f"{item['name']} is not there.")
        yield item["pid"]


def _is_stopped(ground: Ground) -> bool:
    return any(state_of(pid) == "stopped" for pid in _pids(ground))


def _is_out_of_descriptors(pid: int) -> bool:
    limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii").splitlines()
    (row,) = (line for line in limits if line.startswith("Max open files"))
    used = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 names are enough
    return used >= int(row.split()[3]) - _SPARE_DESCRIPTORS


def _is_limited(ground: Ground, name: str, made: float) -> bool:
    limits = [item["limits"].get(name) for item in ground.plant.components("target")]
    return any(limit is not None and limit <= made for limit in limits)


def _is_full(ground: Ground) -> bool:
    status = os.statvfs(ground.plant.settings()["data_dir"])
    return status.f_bavail * status.f_frsize < _NO_ROOM_BYTES
