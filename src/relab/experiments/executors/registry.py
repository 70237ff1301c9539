"""The executors by name. To add one, write a module that implements `protocol.Executor`, and add it here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.executors.caching import CachingExecutor
from relab.experiments.executors.protocol import Executor, ExecutorOptions
from relab.experiments.models import LOCAL_EXECUTOR, RAY_EXECUTOR
from relab.experiments.trial.result_cache import result_cache_of


def _local(options: ExecutorOptions) -> Executor:
    from relab.experiments.executors.local import LocalExecutor

    return LocalExecutor(options)


def _ray(options: ExecutorOptions) -> Executor:
    from relab.experiments.executors.ray import RayExecutor

    return RayExecutor(options)


class ExecutorKind(NamedTuple):
    """One kind of executor.

    Attributes:
        make: returns an executor of this kind without starting anything.
        takes_address: whether the executor connects to a cluster, so that `ExecutorOptions.address` may be set.
    """

    make: Callable[[ExecutorOptions], Executor]
    takes_address: bool = False


EXECUTORS: Final[Mapping[str, ExecutorKind]] = {
    LOCAL_EXECUTOR: ExecutorKind(_local),
    RAY_EXECUTOR: ExecutorKind(_ray, takes_address=True),
}


def make_executor(name: str, options: ExecutorOptions) -> Executor:
    """Return the executor with this name, without starting or checking anything; it uses no result cache.

    Raises:
        ExperimentInvalidError: there is no executor of this name, or `options` has an address and the executor takes no
            address.
    """
    kind = EXECUTORS.get(name)
    if kind is None:
        raise ExperimentInvalidError(f"There is no executor {name!r}.", remedy=f"One of: {', '.join(EXECUTORS)}.")
    if options.address is not None and not kind.takes_address:
        raise ExperimentInvalidError(f"The executor {name} has no address, so --address cannot be used with it.")
    return kind.make(options)


def make_executor_of_run(name: str, options: ExecutorOptions) -> Executor:
    """Return the executor with this name for a run, without starting or checking anything.

    If the experiment uses the result cache, the executor first searches the cache for the result of each trial.

    Raises:
        ExperimentInvalidError: there is no executor of this name, or `options` has an address and the executor takes no
            address.
    """
    made, settings = make_executor(name, options), options.settings
    cache = result_cache_of(settings.config, settings.root, settings.clock)
    return made if cache is None else CachingExecutor(made, name, options, cache)
