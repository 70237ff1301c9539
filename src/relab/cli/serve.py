"""`lab serve`: run the API server, and worker processes that end with it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from relab.cli.context import read_settings
from relab.core.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    import socket

    from relab.bootstrap import Services
    from relab.serving.limits import HttpLimits
    from relab.settings import HttpSettings, Settings

STREAM_STOP_TIMEOUT_S = 5
"""How long open requests may take to end after a request to stop the server, in seconds."""

Port = Annotated[
    int | None,
    typer.Option(
        help="Port to bind. Default: RELAB_HTTP__PORT (8000); with --only incidents PORT (9001).",
        min=0,
        max=65535,
    ),
]
Only = Annotated[
    Literal["incidents", "builds"] | None,
    typer.Option(help="Serve only this part: the incident responder and its API, or the API of builds."),
]
Autonomy = Annotated[
    Literal["observe", "suggest", "approve", "act"] | None,
    typer.Option(help="What the responder may do without a person. Default: RELAB_INCIDENTS__AUTONOMY (approve)."),
]


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind. Default: RELAB_HTTP__HOST (127.0.0.1).")] = None,
    port: Port = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes beside the API. Default: 1; with RQ 0.", min=0, max=64)
    ] = None,
    only: Only = None,
    autonomy: Autonomy = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            help="Port of OTLP/gRPC, which is 4317 by convention. Default: RELAB_GRPC__PORT; without it, gRPC is off.",
            min=0,
            max=65535,
        ),
    ] = None,
) -> None:
    """Serve the API. With the embedded queue, a worker process runs beside it.

    If TARGET_API_BASE_URL is set, the responder also watches that service and responds to its incidents. Only one
    process per database does this. SIGTERM and Ctrl-C finish the open requests and the worker's job, then stop with
    exit code 0. A job that takes longer than 10 seconds is ended; it starts again with the next worker. A rollout is
    not finished: its flags are restored, and the next worker continues it.
    """
    import signal

    from relab.cli.http_server import HttpServer
    from relab.cli.processes import ChildProcesses
    from relab.core.logging import configure_logging, get_logger

    _export_options(only, autonomy, grpc_port)
    settings = read_settings()
    configure_logging(settings.log_level, json_lines=settings.app_env != "development")
    address = host or settings.http.host
    is_alone = settings.serve_only != "all"
    if port is None:
        port = settings.port if settings.serve_only == "incidents" else settings.http.port
    if workers is None:
        workers = 1 if _wants_worker(settings) and not is_alone else 0
    _check_in_child(settings, address)
    _check_grpc(settings)
    with _bind(address, port) as listener:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
        with ChildProcesses([["worker"]] * workers):
            get_logger("relab.serve").info("listening", url=_url(listener))
            taken = settings.grpc.max_connections if _serves_grpc(settings) else 0
            server = HttpServer(_limits(settings.http), STREAM_STOP_TIMEOUT_S, other_connections=taken)
            server.run(sockets=[listener])


def _limits(http: HttpSettings) -> HttpLimits:
    """Return the limits of the HTTP server, from the settings with the same names."""
    import dataclasses

    from relab.serving.limits import HttpLimits

    return HttpLimits(**{field.name: getattr(http, field.name) for field in dataclasses.fields(HttpLimits)})


def _export_options(only: str | None, autonomy: str | None, grpc_port: int | None) -> None:
    """Put options of the command into environment variables; the server and the worker read their settings from these.

    An option that is None leaves its variable unchanged.
    """
    options = {"RELAB_SERVE_ONLY": only, "RELAB_INCIDENTS__AUTONOMY": autonomy, "RELAB_GRPC__PORT": grpc_port}
    os.environ.update({name: str(value) for name, value in options.items() if value is not None})


def _serves_grpc(settings: Settings) -> bool:
    """Return whether the server also serves OTLP/gRPC: a port is set, and `serve_only` is `all`."""
    return settings.grpc.port is not None and settings.serve_only == "all"


def _check_grpc(settings: Settings) -> None:
    """Check that OTLP/gRPC can be served on the configured port; do nothing if it is not served.

    Raises:
        ConfigurationError: the extra `grpc` is not installed.
        UnavailableError: the port cannot be bound.
    """
    import importlib.util

    if settings.grpc.port is None or not _serves_grpc(settings):
        return
    if importlib.util.find_spec("grpc") is None:
        raise ConfigurationError(
            "OTLP/gRPC is on (RELAB_GRPC__PORT), and the package grpcio is not installed.",
            remedy="Install it with: pip install 'relab[grpc]', or remove the setting.",
        )
    # The server binds the port again later, where a failure would print a stack trace.
    _bind(settings.grpc.host, settings.grpc.port, option="RELAB_GRPC__PORT").close()


def _check_in_child(settings: Settings, address: str) -> None:
    """Run `_check` in a child process, so that its modules (migrations, YAML) do not stay in memory of the server.

    Raises:
        SystemExit: a check failed; the child process has reported the error. The exit code is that of the error.
        UnavailableError: a signal killed the child process.
    """
    from relab.cli.output import EXIT_INTERRUPTED, report_error

    if sys.platform == "darwin":
        # There, system libraries may abort in a process that was forked.
        _check(settings, address)
        return
    # Both processes need it, so it is loaded once.
    import relab.bootstrap.incidents  # noqa: F401

    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = EXIT_INTERRUPTED
        with suppress(KeyboardInterrupt):
            try:
                _check(settings, address)
                code = 0
            except Exception as error:  # noqa: BLE001 the outermost frame of this process
                code = report_error(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        raise UnavailableError(
            f"The checks before the start were killed by signal {-code}.",
            remedy="Signal 9 often means that the memory is full. Then start `lab serve` again.",
        )
    if code != 0:
        raise SystemExit(code)


def _check(settings: Settings, address: str) -> None:
    """Create or migrate the database, and check the settings and the runbooks.

    Raises:
        RelabError: the database cannot be used, or a setting or a runbook is invalid.
    """
    from relab.bootstrap import build
    from relab.core.logging import get_logger

    services = build(settings)
    try:
        services.prepare()
        if services.knowledge.make_folder():
            log = get_logger("relab.serve")
            log.info("runbooks_folder_created", folder=str(services.knowledge.folder), setting="RUNBOOKS_PATH")
        services.knowledge.check()
        services.incidents.check()
        # Rejects settings with which no notice could be sent.
        services.notices.configured()
        _reject_open_public_bind(services, address)
        if _serves_grpc(settings):
            _reject_open_public_bind(services, settings.grpc.host)
    finally:
        services.close()


def _wants_worker(settings: Settings) -> bool:
    """Return whether the server should start a worker process: True with the embedded job queue, False with RQ."""
    from relab.bootstrap import build

    services = build(settings)
    try:
        return services.job_backend.worker_beside_server
    finally:
        services.close()


def _leave(*_: object) -> NoReturn:
    """Handle a signal: end the process with exit code 0, after its `with` and `finally` blocks have cleaned up."""
    # After its shutdown, uvicorn raises the signal again, which by default would kill this process before its workers
    # end.
    raise SystemExit(0)


def _bind(address: str, port: int, *, option: str = "--port (RELAB_HTTP__PORT)") -> socket.socket:
    """Return a socket that listens on the address and port.

    `option` is the name of the option or setting that chooses the port; the error message contains it.

    Raises:
        UnavailableError: the port cannot be bound.
    """
    import socket

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=2_048)
    except OSError as error:
        # Python appends the address to the message of the system.
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise UnavailableError(
            f"Cannot listen on {address} port {port}: {reason}.",
            remedy=f"Stop the program that uses the port, or choose another port with {option}.",
        ) from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reject_open_public_bind(services: Services, address: str) -> None:
    """Reject an address other than loopback while requests need no token.

    With the setting `trust_loopback_publish`, every address is accepted.

    Raises:
        ConfigurationError: the address is rejected.
    """
    import ipaddress

    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = address == "localhost"
    if is_loopback or services.settings.trust_loopback_publish or not services.access.is_open():
        return
    raise ConfigurationError(
        f"The address {address} is public and this installation has no tokens: every machine in the network could use it.",
        remedy="Create one with `lab auth create-token --name admin --scope admin`, or bind 127.0.0.1.",
    )
