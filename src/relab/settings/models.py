"""The settings of an operator, and the sources that they are read from.

The sources, from the highest precedence to the lowest, are: arguments of `load_settings`, environment variables,
`$RELAB_HOME/.env`, `$RELAB_HOME/config.toml`, defaults.

The variables that relab took over from AgentOps, such as `DATABASE_URL`, work with and without the prefix `RELAB_`; the
name with the prefix has precedence. All other names begin with `RELAB_`; two underscores separate the section from the
setting (`RELAB_JOBS__LEASE_S`). The `.env` of the working directory is not read, because `lab` runs inside other
people's projects, whose `.env` may name their database.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from relab.core.errors import ConfigurationError
from relab.core.home import default_home
from relab.core.validation import plain_message
from relab.settings.sections import (
    BuildSettings,
    GrpcSettings,
    HttpSettings,
    IncidentSettings,
    JobSettings,
    LlmSettings,
    NoticeSettings,
    ProgressSettings,
    RcaSettings,
    RolloutSettings,
    StorageSettings,
    TelemetrySettings,
    Url,
)

DEFAULT_TARGET_URL = "http://127.0.0.1:8011"


class Settings(BaseSettings):
    """All settings of relab. Secrets are wrapped, so that they are printed as stars."""

    model_config = SettingsConfigDict(
        env_prefix="RELAB_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    home: Path
    database_url: SecretStr = Field(
        default_factory=lambda data: SecretStr(f"sqlite:///{data['home'] / 'relab.db'}"),
        validation_alias=AliasChoices("RELAB_DATABASE_URL", "DATABASE_URL"),
    )
    redis_url: SecretStr | None = Field(None, validation_alias=AliasChoices("RELAB_REDIS_URL", "REDIS_URL"))
    app_env: str = Field("development", validation_alias=AliasChoices("RELAB_APP_ENV", "APP_ENV"))
    app_ingest_secret: SecretStr | None = Field(
        None, validation_alias=AliasChoices("RELAB_APP_INGEST_SECRET", "APP_INGEST_SECRET")
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        BeforeValidator(lambda level: level.upper() if isinstance(level, str) else level),
    ] = Field("INFO", validation_alias=AliasChoices("RELAB_LOG_LEVEL", "LOG_LEVEL"))
    openai_api_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("RELAB_OPENAI_API_KEY", "OPENAI_API_KEY")
    )
    anthropic_api_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("RELAB_ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY")
    )
    llm_model: str | None = Field(
        None,
        validation_alias=AliasChoices("RELAB_LLM_MODEL", "LLM_MODEL"),
        description="The seed's name for RELAB_LLM__MODEL, which beats it.",
    )
    rq_queue_name: str = Field("rca", validation_alias=AliasChoices("RELAB_RQ_QUEUE_NAME", "RQ_QUEUE_NAME"))
    runbooks_path: Path | None = Field(
        None,
        validation_alias=AliasChoices("RELAB_RUNBOOKS_PATH", "RUNBOOKS_PATH"),
        description="A folder with runbooks that override the shipped ones; by default `knowledge` in RELAB_HOME.",
    )
    vector_store_path: Path | None = Field(
        None,
        validation_alias=AliasChoices("RELAB_VECTOR_STORE_PATH", "VECTOR_STORE_PATH"),
        description="The cache folder of the sentence model; by default `vector_store` in RELAB_HOME.",
    )
    target_api_base_url: Url | None = Field(
        None,
        validation_alias=AliasChoices("RELAB_TARGET_API_BASE_URL", "TARGET_API_BASE_URL"),
        description="The URL of the service to watch; with `lab serve --only incidents` by default http://127.0.0.1:8011.",
    )
    action_server_url: Url = Field(
        "http://127.0.0.1:9000", validation_alias=AliasChoices("RELAB_ACTION_SERVER_URL", "ACTION_SERVER_URL")
    )
    action_server_token: SecretStr | None = Field(
        None, validation_alias=AliasChoices("RELAB_ACTION_SERVER_TOKEN", "ACTION_SERVER_TOKEN")
    )
    poll_interval_seconds: Annotated[float, Field(ge=0.2, le=300)] = Field(
        30.0,
        validation_alias=AliasChoices("RELAB_POLL_INTERVAL_SECONDS", "POLL_INTERVAL_SECONDS"),
        description="The time between two polls of the target. At most 300: the lease of the target lasts ten minutes.",
    )
    anomaly_threshold_error_rate: Annotated[float, Field(gt=0, le=100)] = Field(
        50.0,
        validation_alias=AliasChoices("RELAB_ANOMALY_THRESHOLD_ERROR_RATE", "ANOMALY_THRESHOLD_ERROR_RATE"),
        description="The error rate in percent at which the seed's rule opens an incident.",
    )
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        9001,
        validation_alias=AliasChoices("RELAB_PORT", "PORT"),
        description="The port of `lab serve --only incidents`.",
    )
    qdrant_url: Annotated[Url, Field(pattern=r"^https?://")] | None = Field(
        None,
        validation_alias=AliasChoices("RELAB_QDRANT_URL", "QDRANT_URL"),
        description="The URL of a Qdrant server that testbeds use instead of their embedded search engine.",
    )
    testbed_token: SecretStr | None = Field(
        None,
        description="The token to change a testbed's flags over HTTP; without it, every program of this machine may.",
    )
    serve_only: Literal["all", "incidents", "builds"] = Field("all", description="The part that `lab serve` serves.")
    service_name: str = Field("agentops-smart-sre", description="The service name in the response of `GET /`.")
    trust_loopback_publish: bool = Field(
        False,
        description="Treat every client as local. Only for a container whose port is published on 127.0.0.1.",
    )
    jobs: JobSettings = JobSettings()
    http: HttpSettings = HttpSettings()
    grpc: GrpcSettings = GrpcSettings()
    storage: StorageSettings = StorageSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    rca: RcaSettings = RcaSettings()
    progress: ProgressSettings = ProgressSettings()
    llm: LlmSettings = LlmSettings()
    incidents: IncidentSettings = IncidentSettings()
    notices: NoticeSettings = NoticeSettings()
    rollouts: RolloutSettings = RolloutSettings()
    builds: BuildSettings = BuildSettings()

    @property
    def watched_url(self) -> str | None:
        """The URL of the service to watch; None: no service is watched."""
        if self.serve_only == "builds":
            return None
        if self.target_api_base_url is None and self.serve_only == "incidents":
            return DEFAULT_TARGET_URL
        return self.target_api_base_url

    @property
    def provider_keys(self) -> dict[str, SecretStr]:
        """The API keys that are set by a variable of one provider, such as `OPENAI_API_KEY`.

        The result is `{name of the language model provider: API key}`.
        """
        keys = {"openai": self.openai_api_key, "anthropic": self.anthropic_api_key}
        return {name: key for name, key in keys.items() if key is not None}

    @property
    def has_model(self) -> bool:
        """Whether a language model is configured, by an API key or by the URL of a server."""
        return bool(self.provider_keys) or self.llm.api_key is not None or self.llm.base_url is not None

    @property
    def job_backend(self) -> str:
        """The name of the job back end in use, `embedded` or `rq`."""
        if self.jobs.backend == "auto":
            return "rq" if self.redis_url is not None else "embedded"
        return self.jobs.backend

    @property
    def taught_failures(self) -> Path:
        """The folder with this installation's own descriptions of known build failures; the folder need not exist."""
        return self.home / "known_failures"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of settings; an earlier source has precedence over a later one.

        The environment or the file `.env` is left out if it has no variable of relab. This saves a millisecond, the
        time in which pydantic reads such a source.
        """
        given = init_settings()
        home = _current_home(given)
        variables = (EnvSettingsSource(settings_cls), DotEnvSettingsSource(settings_cls, env_file=home / ".env"))
        names = _plain_names(settings_cls)
        return (
            init_settings,
            *(source for source in variables if _may_set(source.env_vars, names, has_home="home" in given)),
            TomlConfigSettingsSource(settings_cls, toml_file=home / "config.toml"),
        )


def load_settings(home: Path | None = None, **options: Any) -> Settings:
    """Read the settings from environment variables and files.

    Args:
        home: the folder of the installation (`$RELAB_HOME`); None for the default folder.
        options: values of settings, by the name of the field; they have precedence over all other sources.

    Raises:
        ConfigurationError: a value is not valid, or a file cannot be read; the error names the setting or the file and
            never contains a secret.
    """
    try:
        return Settings(home=home or default_home(), **options)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {plain_message(item['msg'])}"
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise ConfigurationError(
            f"The settings are not valid: {problems}.", remedy="See .env.example for every setting."
        ) from error
    except SettingsError as error:
        raise ConfigurationError(
            f"The settings cannot be read: {error}.",
            remedy="Lists and mappings are JSON, such as RELAB_HTTP__ALLOWED_HOSTS='[\"relab.internal\"]'. See .env.example.",
        ) from error
    except ValueError as error:
        # For example a file that is not TOML.
        raise ConfigurationError(f"The settings cannot be read: {error}.", remedy="See .env.example.") from error
    except OSError as error:
        raise ConfigurationError(
            f"The settings cannot be read: {error.filename or 'a file in the home'}: {error.strerror}.",
            remedy="Let this user read the files .env and config.toml in RELAB_HOME.",
        ) from error


def _current_home(given: Mapping[str, Any]) -> Path:
    home = given.get("home")
    return home if isinstance(home, Path) else default_home()


@functools.cache
def _plain_names(settings_cls: type[BaseSettings]) -> frozenset[str]:
    """Return the environment variables that also work without the prefix `RELAB_`, in lower case, in both forms."""
    aliases = (field.validation_alias for field in settings_cls.model_fields.values())
    choices = (alias.choices for alias in aliases if isinstance(alias, AliasChoices))
    return frozenset(name.lower() for name in itertools.chain(*choices) if isinstance(name, str))


def _may_set(variables: Iterable[str], plain_names: frozenset[str], *, has_home: bool) -> bool:
    """Return whether at least one of these environment variables may set a setting of relab.

    A variable may set one if its name begins with `relab_`, or if the part of its name before the first double
    underscore is in `plain_names`. Without a double underscore, this part is the whole name.

    Args:
        variables: the names of the variables that have a value, in lower case.
        plain_names: the names that also work without the prefix `relab_`, from `_plain_names`.
        has_home: whether the caller gives the home folder; the variable `relab_home` then does not count.
    """
    return any(
        (name.startswith("relab_") and not (has_home and name == "relab_home"))
        or name.partition("__")[0] in plain_names
        for name in variables
    )
