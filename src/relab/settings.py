"""Settings: option > environment > `$RELAB_HOME/.env` > `$RELAB_HOME/config.toml` > default.

The names of the AgentOps seed are read unprefixed (`DATABASE_URL`, …), and `RELAB_…` beats
them; everything else is `RELAB_…`, nested by two underscores (`RELAB_JOBS__LEASE_S`).
The working directory's `.env` is not read: `lab` runs inside other people's projects,
whose `.env` may name their database.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, IPvAnyNetwork, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from relab.core.errors import ConfigurationError

DEFAULT_TARGET_URL = "http://127.0.0.1:8011"

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JobSettings(_Section):
    """The job queue."""

    mode: Literal["auto", "embedded", "rq"] = Field("auto", description="auto: rq when REDIS_URL is set.")
    lease_s: Seconds = Field(15.0, description="A worker that is silent for so long is taken for dead.")
    poll_s: Seconds = Field(0.1, description="How often an idle embedded worker looks for jobs.")
    sweep_s: Seconds = Field(5.0, description="How often lost and exhausted jobs are looked for.")
    keep_done_days: Annotated[float, Field(ge=0)] = 7.0


class HttpSettings(_Section):
    """The HTTP server."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    max_body_mb: Annotated[float, Field(gt=0, le=1_024)] = 64.0
    allowed_hosts: list[str] = Field(
        [], description="Names beside loopback that an installation without tokens answers to."
    )
    trusted_proxies: list[IPvAnyNetwork] = Field(
        [],
        description="Addresses or networks of proxies in front of relab. What comes from them is never local, and their "
        "X-Forwarded-For or Forwarded names the client in the log.",
    )
    max_concurrent_ingests: Annotated[int, Field(ge=1)] = Field(64, description="More are told to come back (429).")
    max_ingest_mb: Annotated[float, Field(gt=0, le=65_536)] = Field(
        256.0, description="Bytes of all bodies that are being taken in; more are told to come back (429)."
    )
    max_request_line_bytes: Annotated[int, Field(ge=256, le=1_048_576)] = Field(
        8_192, description="Bytes of a request target; longer ones are answered 414."
    )
    max_header_bytes: Annotated[int, Field(ge=1_024, le=16_777_216)] = Field(
        32_768, description="Bytes of all header fields of a request; more are answered 431."
    )
    max_headers: Annotated[int, Field(ge=8, le=10_000)] = Field(
        100, description="Header fields of a request; more are answered 431."
    )
    header_timeout_s: Seconds = Field(10.0, description="Until the headers of a request are complete; then 408.")
    body_timeout_s: Seconds = Field(60.0, description="Until the body of a request is complete; then 408.")
    keep_alive_s: Annotated[int, Field(ge=1, le=86_400)] = Field(
        30, description="How long an idle connection is kept after a response."
    )
    stalled_reader_s: Seconds = Field(
        30.0, description="A connection is closed when its client has taken no waiting bytes for so long."
    )
    max_pipelined: Annotated[int, Field(ge=1, le=1_000)] = Field(
        16, description="Requests of one connection that wait behind the one in progress; more end the connection."
    )
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        4_096, description="Open connections beside event streams, as far as the limit of open files allows."
    )
    max_connections_per_client: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        2_048, description="Open connections of one address beside event streams."
    )
    max_streams: Annotated[int, Field(ge=1, le=1_000_000)] = Field(4_096, description="Open event streams.")
    health_connections: Annotated[int, Field(ge=1, le=1_000)] = Field(
        16, description="Connections beyond these limits, which answer /healthz and /readyz only."
    )


class StorageSettings(_Section):
    """The database."""

    min_free_mb: Annotated[float, Field(ge=0, le=1_048_576)] = Field(
        16.0, description="With less free on the disk of SQLite's file, /readyz answers 503."
    )


class ProgressSettings(_Section):
    """Progress streams."""

    poll_s: Seconds = 0.2
    heartbeat_s: Seconds = 15.0


class LlmSettings(_Section):
    """The language model that may word summaries, and be asked about incidents. Used only when a key is set."""

    provider: Literal["auto", "openai", "anthropic"] = "auto"
    base_url: str | None = Field(None, description="Any OpenAI-compatible server.")
    model: str | None = None
    output_method: Literal["json_schema", "json_mode", "function_calling"] | None = Field(
        None, description="How the server is asked for JSON; by default as suits the provider."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | Literal["default"] = Field(
        0.0, description="default leaves it out, for models that refuse one."
    )
    timeout_s: Seconds = 20.0
    max_calls_per_hour: Annotated[int, Field(ge=0)] = 600
    max_tokens_per_hour: Annotated[int, Field(ge=0)] = 2_000_000
    prompt_usd_per_million: Annotated[float, Field(ge=0)] | None = Field(None, description="Tokens; to tell costs.")
    completion_usd_per_million: Annotated[float, Field(ge=0)] | None = None


Autonomy = Literal["observe", "suggest", "approve", "act"]


class IncidentSettings(_Section):
    """What the incident responder may do, and how much."""

    target_name: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="The name under which incidents are stored; default: host and port of the target."
    )
    autonomy: Autonomy = Field(
        "approve",
        description="How far the responder may go by itself with actions that change something: observe, suggest, "
        "approve (a person approves each action) or act.",
    )
    autonomy_by_class: dict[str, Autonomy] = Field(
        {}, description="The autonomy for single classes of actions; it takes the place of `autonomy`."
    )
    max_actions_per_incident: Annotated[int, Field(ge=0, le=100)] = Field(
        5, description="The maximum number of actions for one incident."
    )
    max_actions_per_window: Annotated[int, Field(ge=0, le=1_000)] = Field(
        10, description="The maximum number of actions within `action_window_s`."
    )
    max_actions_per_part: Annotated[int, Field(ge=0, le=1_000)] = Field(
        5, description="The maximum number of actions on one part of the target within `action_window_s`."
    )
    action_window_s: Seconds = Field(3_600.0, description="The window of the limits on actions.")
    cooldown_s: Annotated[float, Field(ge=0, le=86_400)] = Field(
        30.0, description="The minimum time between two executions of the same action on the same part."
    )
    use_incident_history: bool = Field(
        True, description="Whether past incidents raise the probability of their causes."
    )
    ask_model: Literal["never", "unsure", "always"] = Field(
        "never",
        description="When a language model is asked for a second opinion; observations of the target are sent to it.",
    )
    max_model_calls_per_incident: Annotated[int, Field(ge=0, le=100)] = Field(
        6, description="The maximum number of calls of the model for one incident."
    )
    max_model_tokens_per_incident: Annotated[int, Field(ge=0)] = Field(
        200_000, description="The maximum number of tokens, read and written, for one incident."
    )
    max_model_time_per_incident_s: Seconds = Field(
        60.0, description="The maximum total time of the model's calls for one incident."
    )
    excluded_runbooks: list[str] = Field([], max_length=1_000, description="The causes whose runbooks are not used.")


class NoticeSettings(_Section):
    """The receivers of notices of incidents, and the people who may answer in Slack."""

    slack_webhook_url: SecretStr | None = Field(
        None, description="The address of an incoming webhook of Slack, or of a compatible service."
    )
    slack_signing_secret: SecretStr | None = Field(
        None, description="The signing secret of the Slack app whose commands are answered; without it, no command is."
    )
    slack_operators: list[str] = Field(
        [], description="The ids of the Slack users who may approve, reject, pause and resume; by default nobody may."
    )
    pagerduty_routing_key: SecretStr | None = Field(
        None, description="The routing key of an integration of PagerDuty's Events API v2."
    )
    pagerduty_url: str = Field("https://events.pagerduty.com/v2/enqueue", description="The address of the Events API.")
    page_on: Literal["opened", "person_needed"] = Field(
        "opened", description="When PagerDuty is alerted: when an incident opens, or when a person has to act."
    )
    public_url: str | None = Field(None, description="The address at which people reach relab; notices link to it.")
    give_up_after_s: Seconds = Field(14_400.0, description="How long sending a notice is retried.")


class Settings(BaseSettings):
    """Everything an operator can set. Secrets are wrapped, so that printing shows stars."""

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
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO", validation_alias=AliasChoices("RELAB_LOG_LEVEL", "LOG_LEVEL")
    )
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
        description="A folder whose runbooks are laid over the shipped ones; by default `knowledge` in the home.",
    )
    vector_store_path: Path | None = Field(
        None,
        validation_alias=AliasChoices("RELAB_VECTOR_STORE_PATH", "VECTOR_STORE_PATH"),
        description="A folder for what the sentence model has computed; by default `vector_store` in the home.",
    )
    target_api_base_url: str | None = Field(
        None,
        validation_alias=AliasChoices("RELAB_TARGET_API_BASE_URL", "TARGET_API_BASE_URL"),
        description="The service that is watched; with `lab serve --only incidents` http://127.0.0.1:8011 by default.",
    )
    action_server_url: str = Field(
        "http://127.0.0.1:9000", validation_alias=AliasChoices("RELAB_ACTION_SERVER_URL", "ACTION_SERVER_URL")
    )
    action_server_token: SecretStr | None = Field(
        None, validation_alias=AliasChoices("RELAB_ACTION_SERVER_TOKEN", "ACTION_SERVER_TOKEN")
    )
    poll_interval_seconds: Annotated[float, Field(ge=0.2, le=300)] = Field(
        30.0,
        validation_alias=AliasChoices("RELAB_POLL_INTERVAL_SECONDS", "POLL_INTERVAL_SECONDS"),
        description="Between two polls of the target; its lease, which holds for ten minutes at most, must outlive it.",
    )
    anomaly_threshold_error_rate: Annotated[float, Field(gt=0, le=100)] = Field(
        50.0,
        validation_alias=AliasChoices("RELAB_ANOMALY_THRESHOLD_ERROR_RATE", "ANOMALY_THRESHOLD_ERROR_RATE"),
        description="Percent, of the seed's rule.",
    )
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        9001,
        validation_alias=AliasChoices("RELAB_PORT", "PORT"),
        description="Where `lab serve --only incidents` listens.",
    )
    qdrant_url: str | None = Field(
        None,
        pattern=r"^https?://",
        validation_alias=AliasChoices("RELAB_QDRANT_URL", "QDRANT_URL"),
        description="A server that testbeds search by, in place of their embedded engine.",
    )
    testbed_token: SecretStr | None = Field(
        None,
        description="What it takes to change a testbed's flags over HTTP; nothing but to be on this machine by default.",
    )
    serve_only: Literal["all", "incidents"] = Field("all", description="What `lab serve` serves.")
    service_name: str = Field("agentops-smart-sre", description="What `GET /` calls this service.")
    trust_loopback_publish: bool = Field(
        False,
        description="Only for a container whose port is published on 127.0.0.1: every client counts as loopback.",
    )
    jobs: JobSettings = JobSettings()
    http: HttpSettings = HttpSettings()
    storage: StorageSettings = StorageSettings()
    progress: ProgressSettings = ProgressSettings()
    llm: LlmSettings = LlmSettings()
    incidents: IncidentSettings = IncidentSettings()
    notices: NoticeSettings = NoticeSettings()

    @property
    def watched_url(self) -> str | None:
        """The service that is watched, if one is."""
        if self.target_api_base_url is None and self.serve_only == "incidents":
            return DEFAULT_TARGET_URL
        return self.target_api_base_url

    @property
    def job_mode(self) -> Literal["embedded", "rq"]:
        """The queue in use."""
        if self.jobs.mode == "auto":
            return "rq" if self.redis_url is not None else "embedded"
        return self.jobs.mode

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, strongest first."""
        home = _current_home(init_settings)
        return (
            init_settings,
            EnvSettingsSource(settings_cls),
            DotEnvSettingsSource(settings_cls, env_file=home / ".env"),
            TomlConfigSettingsSource(settings_cls, toml_file=home / "config.toml"),
        )


def default_home() -> Path:
    """Return where relab keeps its data: `$RELAB_HOME`, else the user's data directory."""
    given = os.environ.get("RELAB_HOME")
    return Path(given).expanduser().absolute() if given else Path(platformdirs.user_data_dir("relab"))


def load_settings(home: Path | None = None, **options: Any) -> Settings:
    """Read the settings; `options` (fields by name) beat every other source.

    Raises:
        ConfigurationError: a value is wrong; names the setting, never a secret's value.
    """
    try:
        return Settings(home=home or default_home(), **options)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise ConfigurationError(
            f"The settings are not valid: {problems}.", remedy="See .env.example for every setting."
        ) from error
    except ValueError as error:
        # A file that is no TOML, or an environment value that is no JSON where a list belongs.
        raise ConfigurationError(f"The settings cannot be read: {error}.", remedy="See .env.example.") from error


def _current_home(init_settings: PydanticBaseSettingsSource) -> Path:
    given = init_settings().get("home")
    return given if isinstance(given, Path) else default_home()
