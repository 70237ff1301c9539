"""Open the configured job back end, one of the modules of `backends/`."""

from __future__ import annotations

import importlib
import pkgutil

from relab.core.errors import ConfigurationError
from relab.jobs import backends
from relab.jobs.backend import BackendOptions, JobBackend


def backend_names() -> list[str]:
    """Return the names of all back ends, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(backends.__path__))


def open_backend(name: str, options: BackendOptions) -> JobBackend:
    """Return the job back end with this name; it connects to its broker when it is first used.

    Raises:
        ConfigurationError: there is no such back end, an option that it needs is not set, or its library is missing.
    """
    if name not in backend_names():
        raise ConfigurationError(
            f"RELAB_JOBS__BACKEND is {name!r}, which is not a job back end.",
            remedy=f"Set it to auto, {', '.join(backend_names())}.",
        )
    try:
        module = importlib.import_module(f"{backends.__name__}.{name}")
        backend: JobBackend = module.open_backend(options)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The job back end {name} needs the package {error.name}, which is not installed.",
            remedy="Install relab with the extra that contains it: pip install 'relab[redis]' for rq.",
        ) from error
    return backend
