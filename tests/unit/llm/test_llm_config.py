"""The model configuration: values it rejects, defaults of each provider, and libraries that load only when needed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from relab.bootstrap.llm import build_gateway
from relab.core.errors import ConfigurationError, UnavailableError
from relab.llm import PROVIDERS, LangChainGateway, LlmConfig, LlmError, LlmNotConfiguredError, OutputMethod, Prompt
from relab.settings import load_settings

KEY = "sk-very-secret-0123456789"


@pytest.mark.parametrize(
    "fields",
    [
        {"base_url": "ftp://models.example/v1"},
        {"base_url": "models.example"},
        {"base_url": "http://127.0.0.1:99999/v1"},
        {"base_url": f"https://user:{KEY}"},
        {"base_url": "http://127.0.0.1/v\n1"},
        {"base_url": " http://127.0.0.1/v1"},
        {"base_url": "http://127.0.0.1/v1 "},
        {"base_url": f"https://user:{KEY}@models.example/v1"},
        {"base_url": f"https://models.example/v1?key={KEY}"},
        {"api_key": SecretStr("  ")},
        {"api_key": SecretStr(f"{KEY}\nX-Injected: 1")},
        {"api_key": SecretStr(f"{KEY}ü")},
        {"model": ""},
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"max_retries": 100},
        {"provider": "anthropic", "output_method": OutputMethod.JSON_MODE},
        {"endpoint": "https://models.example"},
    ],
)
def test_invalid_value_is_rejected_without_quoting_it(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        LlmConfig.model_validate({"model": "m", **fields})

    assert KEY not in str(caught.value)


def test_invalid_base_url_in_the_settings_is_a_configuration_error(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, llm={"base_url": f"https://user:{KEY}"})
    with pytest.raises(ConfigurationError, match="base_url: has an invalid port") as caught:
        build_gateway(settings)

    assert KEY not in str(caught.value)


def test_a_key_from_a_file_may_end_with_a_newline() -> None:
    config = LlmConfig(model="m", api_key=SecretStr(f"{KEY}\n"))

    assert config.api_key is not None
    assert config.api_key.get_secret_value() == KEY
    assert KEY not in repr(config)
    assert KEY not in config.model_dump_json()


@pytest.mark.parametrize(
    ("provider", "endpoint", "method"),
    [
        ("openai", "https://api.openai.com/v1", OutputMethod.JSON_SCHEMA),
        ("anthropic", "https://api.anthropic.com", OutputMethod.FUNCTION_CALLING),
    ],
)
def test_each_provider_has_its_own_defaults(provider: str, endpoint: str, method: OutputMethod) -> None:
    config = LlmConfig(provider=provider, model="m")

    assert config.endpoint == endpoint
    assert config.method == method


@pytest.mark.parametrize("provider", list(PROVIDERS))
def test_every_provider_is_described_completely(provider: str) -> None:
    found = PROVIDERS[provider]

    assert found.endpoint.startswith("https://")
    assert found.methods
    assert found.default_model
    assert found.package
    assert callable(found.load)


@pytest.mark.parametrize("provider", list(PROVIDERS))
def test_the_providers_own_endpoint_needs_a_key(provider: str) -> None:
    with pytest.raises(LlmNotConfiguredError, match="API key"):
        LangChainGateway(LlmConfig(provider=provider, model="m"))


@pytest.mark.parametrize("provider", list(PROVIDERS))
def test_a_missing_extra_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(LlmNotConfiguredError) as caught:
        LangChainGateway(LlmConfig(provider=provider, model="m", api_key=SecretStr(KEY)))

    assert caught.value.remedy == "Install it with: pip install 'relab[llm]'"


def test_building_a_gateway_imports_no_library_of_the_extra() -> None:
    program = (
        "import sys\n"
        "from relab.llm import LangChainGateway, LlmConfig\n"
        "LangChainGateway(LlmConfig(model='m', base_url='http://127.0.0.1:1/v1'))\n"
        "heavy = {'langchain_core', 'langchain_openai', 'langchain_anthropic', 'openai', 'anthropic', 'langsmith'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"


def test_every_error_derives_from_the_base_class_that_callers_catch() -> None:
    kinds = [LlmError, *LlmError.__subclasses__()]

    assert all(issubclass(kind, UnavailableError) for kind in kinds)
    assert len({kind.code for kind in kinds}) == len(kinds) == 7
    assert issubclass(LlmNotConfiguredError, ConfigurationError)


def test_the_token_bound_of_a_prompt_counts_bytes() -> None:
    assert Prompt("", "").most_tokens() == 1
    assert Prompt("a" * 10, "\u2603" * 10).most_tokens() == 21
    assert Prompt("", "\ud800").most_tokens() > 0
