"""Read and validate the settings of a target: one JSON file for all of its workers. An unknown field is an error."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from relab.core.errors import ConfigurationError, MalformedBodyError
from relab.core.json import parse_json
from relab.core.validation import plain_message


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listen(_Section):
    """The address on which all workers listen."""

    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65_535)

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can connect to the address."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class DatabaseSettings(_Section):
    """The database server, the shop's user and password on it, and the connection pool of each worker.

    Attributes:
        name: name of the database.
        pool_size: number of connections that the pool keeps open.
        max_overflow: how many more connections the pool may open if all of these are in use.
        pool_timeout_s: longest wait for a connection of the pool.
        statement_timeout_ms: time after which the server cancels a statement.
        read_timeout_s: longest time that one request may use a connection; the connection is then shut down. None
            means `statement_timeout_ms` plus one second.
        max_age_s: age after which a connection is replaced at its next use.
    """

    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65_535)
    user: str = Field(min_length=1)
    password: SecretStr | None
    name: str = Field(min_length=1)
    pool_size: int = Field(10, ge=1, le=500)
    max_overflow: int = Field(5, ge=0, le=500)
    pool_timeout_s: float = Field(2.0, gt=0, le=60)
    connect_timeout_s: float = Field(2.0, gt=0, le=60)
    statement_timeout_ms: int = Field(5_000, ge=1, le=600_000)
    read_timeout_s: float | None = Field(None, gt=0, le=600)
    max_age_s: int = Field(5, ge=1, le=86_400)

    @property
    def patience_s(self) -> float:
        """Longest time that one request may use a connection, in seconds.

        It is `read_timeout_s`. If that is None, it is `statement_timeout_ms` plus one second.
        """
        return self.read_timeout_s or self.statement_timeout_ms / 1_000 + 1.0

    @property
    def pool_max(self) -> int:
        """Maximum number of open connections of one worker's pool."""
        return self.pool_size + self.max_overflow


class CacheSettings(_Section):
    """The Redis server that the shop uses as a cache.

    Attributes:
        timeout_s: time limit for connecting and for each command.
        ttl_s: time after which a cached page expires.
    """

    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65_535)
    password: SecretStr | None = None
    timeout_s: float = Field(0.5, gt=0, le=60)
    ttl_s: int = Field(60, ge=1, le=86_400)


class SearchSettings(_Section):
    """The products file and the Qdrant engine of the shop's search.

    Attributes:
        products_path: the file with the products, one JSON object per line.
        qdrant_dir: the folder of the embedded Qdrant engine's files.
        qdrant_url: the address of a Qdrant server; None for the embedded engine.
    """

    products_path: Path
    qdrant_dir: Path
    qdrant_url: str | None = Field(None, pattern=r"^https?://")


class TargetSettings(_Section):
    """The content of the settings file.

    Attributes:
        version: the version number of these settings.
        workers: number of workers of the target.
        private_dir: folder of the sockets by which fault injection switches on defects in the workers.
        supervisor_socket: the path of the supervisor's socket, for diagnostics; None without a supervisor.
        token: the token that requests to change flags must have. None if they need no token; the target may then
            only listen on a loopback address.
        metrics_window_s: length in seconds of the window, ending now, that health and metrics cover.
    """

    version: int = Field(ge=0)
    listen: Listen
    database: DatabaseSettings
    cache: CacheSettings
    search: SearchSettings
    workers: int = Field(2, ge=1, le=64)
    data_dir: Path
    log_path: Path
    stats_dir: Path
    private_dir: Path
    flags_path: Path
    supervisor_socket: Path | None = None
    token: SecretStr | None = None
    metrics_window_s: int = Field(30, ge=5, le=300)

    @model_validator(mode="after")
    def _refuse_open_writes(self) -> Self:
        if self.token is None and not self.listen.is_loopback:
            raise ValueError(f"listening on {self.listen.host} needs a token, since flags can be changed there")
        return self


class BadSettingsError(ConfigurationError):
    """The settings, or the products file that they name, are invalid; the worker does not start."""

    code = "bad_settings"


def load_settings(path: Path) -> TargetSettings:
    """Read and validate the settings file, and return the settings.

    Raises:
        BadSettingsError: the file cannot be read or is not JSON, or a field is missing, unknown or invalid. The
            message contains no password and no token.
    """
    try:
        return TargetSettings.model_validate(parse_json(path.read_bytes()))
    except OSError as error:
        raise BadSettingsError(f"The settings {path} cannot be read: {error.strerror}.") from error
    except MalformedBodyError as error:
        raise BadSettingsError(f"The settings {path} are not valid JSON: {error.message}") from error
    except ValidationError as error:
        message = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {plain_message(item['msg'])}" for item in error.errors()
        )
        raise BadSettingsError(f"The settings {path} are invalid: {message}.") from error
