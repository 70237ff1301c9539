"""The sections of the settings; two underscores follow a section's name in a variable (`RELAB_JOBS__LEASE_S`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, IPvAnyNetwork, SecretStr


def _strip_url(url: str) -> str:
    """Return a URL without white space at its ends; a URL that was read from a file may end with a line end.

    Raises:
        ValueError: the rest of the text contains white space or control characters.
    """
    url = url.strip()
    if not url.isprintable() or " " in url:
        raise ValueError("must be a URL without white space and control characters")
    return url


Seconds = Annotated[float, Field(gt=0, le=86_400)]
Url = Annotated[str, AfterValidator(_strip_url)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JobSettings(_Section):
    """Settings of the job queue and its workers."""

    backend: str = Field("auto", description="The job back end: embedded or rq; auto is rq if REDIS_URL is set.")
    lease_s: Seconds = Field(15.0, description="A worker that has not extended a lease for this time counts as dead.")
    poll_interval_s: Seconds = Field(0.1, description="How often an idle embedded worker reads the queue.")
    sweep_interval_s: Seconds = Field(5.0, description="How often a worker recovers lost jobs and parks failed ones.")
    done_retention_days: Annotated[float, Field(ge=0, le=36_500)] = Field(
        7.0, description="Done jobs are deleted after this time."
    )
    time_limit_s: Seconds = Field(600.0, description="How long an interactive or background job may run.")
    long_time_limit_s: Seconds = Field(86_400.0, description="How long a job of the lanes long and training may run.")


class HttpSettings(_Section):
    """Settings of the HTTP server: its address, and limits for clients."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    max_body_mb: Annotated[float, Field(gt=0, le=1_024)] = Field(
        64.0, description="The size of a request body; larger bodies are rejected with 413."
    )
    allowed_hosts: list[str] = Field(
        [], description="Host names, besides loopback, that an installation without tokens accepts."
    )
    trusted_proxies: list[IPvAnyNetwork] = Field(
        [],
        description="Addresses or networks of the proxies in front of relab. Their requests never count as local, and "
        "their X-Forwarded-For or Forwarded header names the client in the log.",
    )
    max_concurrent_ingests: Annotated[int, Field(ge=1)] = Field(
        64, description="Ingest requests in progress; more are rejected with 429 and Retry-After."
    )
    max_concurrent_ingest_mb: Annotated[float, Field(gt=0, le=65_536)] = Field(
        256.0,
        description="The total size of bodies in progress; more are rejected with 429 and Retry-After.",
    )
    max_request_line_bytes: Annotated[int, Field(ge=256, le=1_048_576)] = Field(
        8_192, description="The size of a request target; longer ones are rejected with 414."
    )
    max_header_bytes: Annotated[int, Field(ge=1_024, le=16_777_216)] = Field(
        32_768, description="The size of all header fields of a request; more are rejected with 431."
    )
    max_headers: Annotated[int, Field(ge=8, le=10_000)] = Field(
        100, description="The number of header fields of a request; more are rejected with 431."
    )
    header_timeout_s: Seconds = Field(10.0, description="The time to receive the headers of a request; then 408.")
    body_timeout_s: Seconds = Field(60.0, description="The time to receive the body of a request; then 408.")
    keep_alive_timeout_s: Annotated[int, Field(ge=1, le=86_400)] = Field(
        30, description="How long an idle connection stays open after a response."
    )
    stalled_reader_timeout_s: Seconds = Field(
        30.0, description="A connection is closed if its client reads none of the bytes sent to it for this time."
    )
    max_pipelined_requests: Annotated[int, Field(ge=1, le=1_000)] = Field(
        16,
        description="Requests of one connection that wait behind the one in progress; more close the connection.",
    )
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        4_096,
        description="Open connections, without event streams and health checks; the limit of open files may lower it.",
    )
    max_connections_per_client: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        2_048, description="Open connections from one address, without event streams."
    )
    max_streams: Annotated[int, Field(ge=1, le=1_000_000)] = Field(4_096, description="Open event streams.")
    max_health_connections: Annotated[int, Field(ge=1, le=1_000)] = Field(
        16, description="Connections beyond these limits that may request /healthz and /readyz only."
    )


class GrpcSettings(_Section):
    """Settings of the server for OTLP over gRPC, which needs the extra `relab[grpc]`.

    The limits in `HttpSettings` for headers, bodies and ingest requests in progress apply to gRPC, too.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] | None = Field(None, description="By convention 4317; none: off.")
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1_024, description="Open connections; further ones are closed at once."
    )


class StorageSettings(_Section):
    """Settings of the database's storage: how much free disk space it needs."""

    min_free_disk_mb: Annotated[float, Field(ge=0, le=1_048_576)] = Field(
        16.0, description="With less free space on the disk of SQLite's file, /readyz returns 503."
    )


class TelemetrySettings(_Section):
    """Settings of agent runs that are received as traces: how long relab waits for the end of a trace."""

    incomplete_after_s: Seconds = Field(
        900.0, description="A trace whose end is missing ends as incomplete after it received nothing for this time."
    )


class RcaSettings(_Section):
    """Settings of root cause analysis, such as whether failed runs are analysed automatically."""

    on_arrival: bool = Field(
        True, description="Whether failed and suspect runs are analysed by themselves; a model is not asked then."
    )
    on_arrival_after_s: Seconds = Field(5.0, description="A run is analysed when it has not changed for this time.")
    on_arrival_max_waiting: Annotated[int, Field(ge=1, le=100_000)] = Field(
        100, description="The maximum number of such analyses that wait or run; further runs wait until they are done."
    )
    behaviours_on_arrival: bool = Field(
        True, description="Whether runs that need no analysis are searched for behaviours when they arrive."
    )
    rules: Path | None = Field(
        None, description="The file of rules for behaviours; by default rules.yaml in the home, if it exists."
    )
    judge: Literal["off", "all_at_once", "step_by_step", "binary_search", "rerank"] = Field(
        "off", description="How a configured language model judges a run for whose analysis a person asks."
    )
    judge_max_calls: Annotated[int, Field(ge=1, le=10_000)] = Field(
        60, description="The most calls of one judgement; beyond a limit, the local ranking remains alone."
    )
    judge_max_tokens: Annotated[int, Field(ge=1)] = Field(
        500_000, description="The most prompt tokens of one judgement."
    )
    judge_max_usd: Annotated[float, Field(ge=0)] | None = Field(
        None, description="The most that one judgement may cost; needs both prices of RELAB_LLM."
    )
    judge_max_s: Annotated[float, Field(gt=0, le=500)] = Field(
        300.0, description="The most time that the calls of one judgement take together."
    )
    judge_context_tokens: Annotated[int, Field(ge=1_500, le=10_000_000)] = Field(
        60_000, description="The most tokens of one prompt; a longer run is cut."
    )


class ProgressSettings(_Section):
    """Settings of the streams that send the progress of analyses and incidents to clients."""

    poll_interval_s: Seconds = Field(0.2, description="How often a process reads new progress events.")
    heartbeat_interval_s: Seconds = Field(15.0, description="How often an idle stream sends a comment.")


class LlmSettings(_Section):
    """Settings of the language model for summaries and diagnoses. A model is used only if a key or a URL is set."""

    provider: str = Field(
        "auto", description="openai or anthropic; auto is openai, or anthropic if only ANTHROPIC_API_KEY is set."
    )
    api_key: SecretStr | None = Field(
        None, description="The key for the provider; it beats OPENAI_API_KEY and ANTHROPIC_API_KEY."
    )
    base_url: Url | None = Field(None, description="The URL of any OpenAI-compatible server.")
    model: str | None = None
    output_method: Literal["json_schema", "json_mode", "function_calling"] | None = Field(
        None, description="How relab requests JSON from the server; by default the best method of the provider."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | Literal["default"] = Field(
        0.0, description="`default` sends no temperature, for models that reject one."
    )
    timeout_s: Seconds = Field(20.0, description="The time limit of a call, with its retries.")
    max_completion_tokens: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1_024, description="The most tokens of an answer; models that think before they answer need more."
    )
    max_calls_per_hour: Annotated[int, Field(ge=0)] = 600
    max_tokens_per_hour: Annotated[int, Field(ge=0)] = 2_000_000
    prompt_usd_per_million: Annotated[float, Field(ge=0)] | None = Field(
        None, description="The price of a million prompt tokens, to report costs."
    )
    completion_usd_per_million: Annotated[float, Field(ge=0)] | None = Field(
        None, description="The price of a million completion tokens."
    )


Autonomy = Literal["observe", "suggest", "approve", "act"]


class IncidentSettings(_Section):
    """Settings of the incident responder: which actions it may execute, and its limits."""

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
        60.0, description="The maximum total time of the model's calls for one incident, with waits for a free slot."
    )
    excluded_runbooks: list[str] = Field([], max_length=1_000, description="The causes whose runbooks are not used.")


class NoticeSettings(_Section):
    """Settings of notices: their receivers (Slack, PagerDuty), and the people who may answer notices in Slack."""

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
    pagerduty_url: Url = Field("https://events.pagerduty.com/v2/enqueue", description="The address of the Events API.")
    page_on: Literal["opened", "person_needed"] = Field(
        "opened", description="When PagerDuty is alerted: when an incident opens, or when a person has to act."
    )
    public_url: Url | None = Field(None, description="The address at which people reach relab; notices link to it.")
    give_up_after_s: Seconds = Field(14_400.0, description="How long sending a notice is retried.")


class BuildSettings(_Section):
    """Settings of builds: how much disk space their files may use."""

    max_kept_gb: Annotated[float, Field(ge=0, le=1_000_000)] = Field(
        5.0,
        description="The disk space for caches, workspaces and copies of all projects; the least recently used are removed.",
    )


class RolloutSettings(_Section):
    """Settings of rollouts that are started over HTTP: which hosts their plans may name."""

    allowed_hosts: list[str] = Field(
        [],
        max_length=1_000,
        description="Hosts, besides loopback, that their plans may name, each with or without a port.",
    )
