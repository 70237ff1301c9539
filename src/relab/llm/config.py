"""The configuration of the gateway to language models."""

from __future__ import annotations

from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from relab.llm.models import OutputMethod
from relab.llm.providers import PROVIDERS

DEFAULT_PROVIDER: Final = "openai"
"""The provider whose protocol most model servers support."""


def _check_base_url(url: str) -> str:
    if not url.isprintable() or " " in url:
        raise ValueError("must not contain white space or control characters")
    parts = urlsplit(url)
    try:
        _ = parts.port
    except ValueError:
        # The text of this error quotes a part of the URL.
        raise ValueError("has an invalid port") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http or https URL such as http://127.0.0.1:11434/v1")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or password, because URLs are logged; use the API key")
    if parts.query or parts.fragment:
        raise ValueError("must not contain a query or a fragment")
    return url.rstrip("/")


def _check_key(key: SecretStr) -> SecretStr:
    value = key.get_secret_value().strip()
    if not value:
        raise ValueError("is empty; unset it to use no model")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be one word of printable ASCII")
    return SecretStr(value)


def _check_provider(name: str) -> str:
    if name not in PROVIDERS:
        raise ValueError(f"must be one of {', '.join(PROVIDERS)}")
    return name


class LlmConfig(BaseModel):
    """Which language model relab calls, on which server, and with which limits. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    provider: Annotated[str, AfterValidator(_check_provider)] = DEFAULT_PROVIDER
    model: Annotated[str, Field(min_length=1, max_length=200)]
    api_key: Annotated[SecretStr, AfterValidator(_check_key)] | None = Field(
        default=None, description="Required by the providers' own endpoints; a local server may need none."
    )
    base_url: Annotated[str, AfterValidator(_check_base_url)] | None = Field(
        default=None, description="Any server with the provider's protocol; None: the provider's own."
    )
    output_method: OutputMethod | None = Field(default=None, description="None: the best method of the provider.")
    temperature: float | None = Field(
        default=0.0, ge=0, le=2, description="None: send no temperature, for models that reject one."
    )
    timeout_s: float = Field(default=20.0, gt=0, le=600, description="The time limit of a call, with its retries.")
    max_retries: int = Field(default=1, ge=0, le=5)
    retry_backoff_s: float = Field(
        default=0.5, gt=0, le=60, description="The first pause; each further pause is twice as long."
    )
    max_completion_tokens: int = Field(default=1_024, ge=1, le=100_000)
    max_response_bytes: int = Field(default=1_048_576, ge=1_024)
    max_concurrency: int = Field(default=4, ge=1, le=64, description="Concurrent calls; more calls wait for a slot.")

    @model_validator(mode="after")
    def _method_fits_provider(self) -> Self:
        methods = PROVIDERS[self.provider].methods
        if self.method not in methods:
            raise ValueError(f"output_method must be unset or {' or '.join(methods)} for the provider {self.provider}")
        return self

    @property
    def endpoint(self) -> str:
        """The URL of the model server: the configured URL, or else the provider's own."""
        # Without a URL, the libraries would read one from the environment.
        return self.base_url or PROVIDERS[self.provider].endpoint

    @property
    def method(self) -> OutputMethod:
        """The way to request JSON from the server: the configured way, or else the provider's default."""
        return self.output_method or PROVIDERS[self.provider].methods[0]
