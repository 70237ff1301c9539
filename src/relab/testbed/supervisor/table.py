"""The component table of a testbed: rows that describe how to run the dependencies, the links and the programs."""

from __future__ import annotations

import secrets
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from relab.testbed.episodes import BREAKER_VARIABLE, SECRET_VARIABLE
from relab.testbed.layout import HOST, Layout
from relab.testbed.models import LinkEnds, LinksConfig
from relab.testbed.supervisor import guard, postgres
from relab.testbed.supervisor.component import ComponentSpec
from relab.testbed.supervisor.plan import ProgramRow, SupervisorPlan
from relab.testbed.supervisor.ports import HeldPort
from relab.testbed.supervisor.postgres import PostgresPasswords
from relab.testbed.supervisor.probes import HttpReady, PostmasterReady, RedisReady, Running, SocketReady
from relab.testbed.supervisor.programs import PostgresPrograms
from relab.testbed.supervisor.template import PRODUCTS

DATABASE_LINK: Final = "database-primary"
CACHE_LINK: Final = "cache-primary"
PRIVATE_PORTS: Final = (
    "postgres", "redis", DATABASE_LINK, "database-secondary", CACHE_LINK, "cache-secondary",
)  # fmt: skip
_REDIS_CONFIGURATION: Final = """\
bind {host}
port {port}
dir {folder}
daemonize no
save ""
appendonly no
maxmemory 64mb
maxmemory-policy allkeys-lru
user {operator} on >{password} ~* &* +@all
"""
OPERATOR: Final = "operator"
"""The operators' account in the cache (a Redis user), which still works if a fault affects the default account."""


@dataclass(frozen=True, slots=True)
class Site:
    """The values of a testbed that are fixed before any of its components starts.

    Attributes:
        plan: the configuration of the testbed.
        layout: the testbed's folders.
        ports: all ports, public and private, by name.
        programs: the PostgreSQL installation.
        redis: the path of the Redis server.
        credentials: the passwords of the database's roles.
        secret: the secret that the supervisor sends when it notifies programs of a new episode (test of a responder).
    """

    plan: SupervisorPlan
    layout: Layout
    ports: Mapping[str, int]
    programs: PostgresPrograms
    redis: str
    credentials: PostgresPasswords
    secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)


def hold_ports(plan: SupervisorPlan) -> dict[str, HeldPort]:
    """Reserve all ports of a testbed and return them by name; the kernel chooses the private ones.

    Raises:
        StartError: a public port is in use; no port stays reserved.
    """
    held: dict[str, HeldPort] = {}
    try:
        for row in plan.rows:
            if row.port is not None:
                held[row.port] = HeldPort(int(getattr(plan.ports, row.port)), shared=row.count > 1)
        for name in PRIVATE_PORTS:
            held[name] = HeldPort()
    except BaseException:
        for port in held.values():
            port.close()
        raise
    return held


def components(site: Site) -> list[ComponentSpec]:
    """Return the specifications of all components of the testbed, in the order of their start stages."""
    rows = [_postgres(site), _redis(site), _links(site)]
    for row in site.plan.rows:
        rows += [_program(site, row, number) for number in range(1, row.count + 1)]
    return sorted(rows, key=lambda spec: spec.stage)


def write_configurations(site: Site) -> None:
    """Write the configuration files of Redis and of the links (network proxies) into the testbed's folders."""
    layout = site.layout
    layout.redis.mkdir(exist_ok=True)
    text = _REDIS_CONFIGURATION.format(
        host=HOST,
        port=site.ports["redis"],
        folder=layout.redis,
        operator=OPERATOR,
        password=site.credentials.superuser,
    )
    configuration = layout.redis / "redis.conf"
    configuration.touch(0o600)
    configuration.write_text(text, encoding="utf-8")
    servers = {"database": "postgres", "cache": "redis"}
    ends = [
        LinkEnds(name=name, port=site.ports[name], upstream_port=site.ports[servers[name.partition("-")[0]]])
        for name in PRIVATE_PORTS
        if "-" in name
    ]
    config = LinksConfig(socket=str(layout.links_socket), links=ends)
    layout.links_config.write_text(config.model_dump_json(), encoding="utf-8")


def first_settings(site: Site) -> dict[str, Any]:
    """Return the target's settings at the beginning of every episode (test of a responder), by section and name."""
    layout, ports = site.layout, site.ports
    target = next((row for row in site.plan.rows if row.port == "target"), None)
    usual: dict[str, Any] = {
        "listen": {"host": HOST, "port": site.plan.ports.target},
        "database": {
            "host": HOST,
            "port": ports[DATABASE_LINK],
            "user": postgres.APPLICATION,
            "password": site.credentials.application,
            "name": postgres.DATABASE,
            "pool_size": 10,
            "max_overflow": 5,
            "pool_timeout_s": 2.0,
            "connect_timeout_s": 2.0,
            "statement_timeout_ms": 5_000,
        },
        "cache": {"host": HOST, "port": ports[CACHE_LINK], "password": None, "timeout_s": 0.5},
        "search": {"products_path": str(layout.search / PRODUCTS), "qdrant_dir": str(layout.search / "qdrant")},
        "workers": target.count if target else 0,
        "data_dir": str(layout.data),
        "log_path": str(layout.logs / "target.jsonl"),
        "stats_dir": str(layout.stats),
        "private_dir": str(layout.private),
        "flags_path": str(layout.flags),
        "supervisor_socket": str(layout.control_socket),
        "token": None,
    }
    for name, value in site.plan.target.items():
        usual[name] = {**usual[name], **value} if isinstance(value, dict) and name in usual else value
    return usual


def access_of(site: Site) -> dict[str, Any]:
    """Return `{"database": access, "cache": access}`: how operators reach the two servers.

    Each `access` has `host`, `port`, `user` and `password` for direct connections. Its `name` is always that of the
    PostgreSQL database. Its `paths` are the ports of the two links (TCP proxies) to the server, as
    `{"primary": port, "secondary": port}`. At the beginning of an episode, the target uses the primary link.
    """
    users = {"database": ("postgres", postgres.SUPERUSER), "cache": ("redis", OPERATOR)}
    return {
        dependency: {
            "host": HOST,
            "port": site.ports[server],
            "user": user,
            "password": site.credentials.superuser,
            "name": postgres.DATABASE,
            "paths": {path: site.ports[f"{dependency}-{path}"] for path in ("primary", "secondary")},
        }
        for dependency, (server, user) in users.items()
    }


def values_of(site: Site, row: ProgramRow, number: int) -> dict[str, str]:
    """Return the values for the words in braces in a program's command, for example `{"port": "8080"}` for `{port}`.

    Args:
        site: the folders and the ports of the testbed.
        row: the program.
        number: the number of the process, from 1, among the program's processes.
    """
    layout = site.layout
    return {
        "python": sys.executable,
        "home": str(layout.home),
        "testbed": layout.name,
        "folder": str(layout.root),
        "private": str(layout.private),
        "settings": str(layout.target_settings),
        "control": str(layout.control_socket),
        "links": str(layout.links_socket),
        "target_url": f"http://{HOST}:{site.plan.ports.target}",
        "audit": str(layout.audit),
        "tokens": str(layout.tokens),
        "report_order": str(layout.report_order),
        "port": str(getattr(site.plan.ports, row.port)) if row.port else "",
        "number": str(number),
    }


def _postgres(site: Site) -> ComponentSpec:
    folder, log = site.layout.postgres, site.layout.logs / "postgres.log"
    pid_file = folder / "postmaster.pid"
    return ComponentSpec(
        name="postgres",
        group="database",
        stage=0,
        command=postgres.server_command(site.programs, site.ports["postgres"]),
        environment=postgres.ENVIRONMENT,
        cwd=postgres.ROOT,
        opened=postgres.opened_for(folder),
        log=log,
        probe=PostmasterReady(pid_file),
        owner=site.programs.owner,
        port=site.ports["postgres"],
        stop_signal=signal.SIGINT,
        # An immediate shutdown writes no data, but releases shared memory.
        abort_signal=signal.SIGQUIT,
        # An orderly end deletes the file; after a kill, a segment of shared memory remains.
        leaves=lambda: guard.remove_shared_memory(str(pid_file)),
    )


def _redis(site: Site) -> ComponentSpec:
    folder, port = site.layout.redis, site.ports["redis"]
    return ComponentSpec(
        name="redis",
        group="cache",
        stage=0,
        command=[site.redis, str(folder / "redis.conf")],
        environment=_environment(site),
        cwd=folder,
        log=site.layout.logs / "redis.log",
        probe=RedisReady(port),
        port=port,
    )


def _links(site: Site) -> ComponentSpec:
    layout = site.layout
    return ComponentSpec(
        name="links",
        group="links",
        stage=0,
        command=[sys.executable, "-m", "relab.testbed.links", str(layout.links_config)],
        environment=_environment(site),
        cwd=layout.root,
        log=layout.logs / "links.log",
        probe=SocketReady(layout.links_socket),
        stop_grace_s=1.0,
    )


def _program(site: Site, row: ProgramRow, number: int) -> ComponentSpec:
    name = f"{row.name}-{number}" if row.count > 1 else row.name
    port = int(getattr(site.plan.ports, row.port)) if row.port else None
    values = values_of(site, row, number)
    # The logs of hidden programs must not be visible in the folder of the other logs.
    folder = site.layout.private if row.hidden else site.layout.logs
    environment = _environment(site) | ({SECRET_VARIABLE: site.secret} if row.episode_end_path else {})
    if row.port == "chaos" and site.plan.breaker_secret is not None:
        environment[BREAKER_VARIABLE] = site.plan.breaker_secret
    return ComponentSpec(
        name=name,
        group=row.group,
        stage=row.stage,
        command=[part.format(**values) for part in row.command],
        environment=environment,
        cwd=site.layout.root,
        log=folder / f"{name}.log",
        probe=HttpReady(port, row.ready_path) if port and row.ready_path else Running(),
        port=port,
        hidden=row.hidden,
        started=row.started,
        episode_end_path=row.episode_end_path,
    )


def _environment(site: Site) -> dict[str, str]:
    paths = ":".join(str(path) for path in site.plan.python_path)
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "HOME": str(site.layout.root),
        **({"PYTHONPATH": paths} if paths else {}),
    }
