"""The checks of `lab serve` before it listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.cli import serve
from relab.core.errors import ConfigurationError
from relab.settings import Settings


@pytest.mark.parametrize("serve_only", ["all", "builds"])
def test_public_grpc_address_is_rejected_only_if_grpc_is_served(tmp_path: Path, serve_only: str) -> None:
    settings = Settings.model_validate(
        {"home": tmp_path, "serve_only": serve_only, "grpc": {"host": "0.0.0.0", "port": 4317}}
    )

    if serve_only == "all":
        with pytest.raises(ConfigurationError, match=r"0\.0\.0\.0 is public"):
            serve._check(settings, "127.0.0.1")
    else:
        serve._check(settings, "127.0.0.1")
