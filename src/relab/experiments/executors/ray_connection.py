"""Connect to a Ray cluster, and list the resources that a trial needs. Ray is imported inside functions only."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from relab.experiments.config.models import ExperimentConfig
from relab.experiments.errors import ExecutorUnavailableError, ExperimentInvalidError
from relab.experiments.trial.watch import MB

_ADDRESS: Final = re.compile(r"[^/\s]+:\d{1,5}")
_LOOPBACK: Final = ("127.", "localhost:")
_TIMEOUT_S: Final = 10.0


def connect(address: str | None) -> bool:
    """Connect this process to a Ray cluster, unless it is connected already.

    Args:
        address: `auto` or HOST:PORT of the cluster; None to start Ray on this machine.

    Returns:
        True if this call has made the connection, False if there was one already.

    Raises:
        ExperimentInvalidError: the address has another form.
        ExecutorUnavailableError: Ray is not installed, or the cluster cannot be reached.
    """
    if address not in {None, "auto"} and not _ADDRESS.fullmatch(address or ""):
        raise ExperimentInvalidError(
            f"The address of a Ray cluster must be `auto` or HOST:PORT, not {address!r}.",
            remedy="Run `lab` on a node of the cluster; Ray's client protocol (ray://) does not stream results.",
        )
    # Ray reads these when it is imported.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray prints messages about nodes to stdout, where only the command's result belongs; Ray's logs have them, too.
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."
    if address is None or address.startswith(_LOOPBACK):
        # The nodes have the address 127.0.0.1, and Ray's servers listen there only.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError as error:
        raise ExecutorUnavailableError(
            f"The executor ray needs the package Ray, which cannot be imported: {error}.",
            remedy="pip install 'relab[ray]'",
        ) from error
    if ray.is_initialized():
        return False
    try:
        if address not in {None, "auto"}:
            # Ray itself would try for minutes.
            host, _, port = (address or "").rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT_S).close()
        with _own_signals():
            ray.init(
                address=address or "local",
                namespace="relab",
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level="ERROR",
            )
    except (ray.exceptions.RayError, OSError, OverflowError, ValueError, RuntimeError) as error:
        where = f"at {address}" if address else "on this machine"
        raise ExecutorUnavailableError(
            f"There is no Ray cluster {where}: {sentence(error)}",
            remedy="Start one with `ray start --head`, and give its address with --address.",
        ) from error
    return True


def check_fits(config: ExperimentConfig) -> None:
    """Check that at least one node of the cluster is large enough for a trial.

    Raises:
        ExecutorUnavailableError: no node is large enough.
    """
    import ray

    needed = resources(config)
    wanted = {"CPU": needed["num_cpus"], "memory": needed.get("memory", 0)}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= need for name, need in wanted.items()) for node in nodes):
        raise ExecutorUnavailableError(
            f"No node of the Ray cluster has {wanted['CPU']:g} processors and {wanted['memory'] / MB:,.0f} MB for a trial.",
            remedy="Add a larger node, or lower runtime.sandbox.resources.",
        )


def resources(config: ExperimentConfig) -> dict[str, float]:
    """Return the resources that Ray reserves for one trial, `{"num_cpus": n, "memory": bytes}`, from the experiment.

    If the experiment limits no processors, a trial gets one. If it limits no memory, the key `memory` is missing.
    """
    resources = config.runtime.sandbox.resources
    found: dict[str, float] = {"num_cpus": resources.cpu_count or 1}
    if resources.memory_mb:
        found["memory"] = resources.memory_mb * MB
    return found


def sentence(error: BaseException) -> str:
    """Return the first line of an error's message, cut to 300 characters."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's own handlers of SIGINT and SIGTERM: restore them at the end of the `with` block.

    Inside the block, Ray is started, and replaces the handlers. It does so only in the main thread; in any other
    thread, this function does nothing.
    """
    # Only the main thread can set handlers, and Ray replaces them only there.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
