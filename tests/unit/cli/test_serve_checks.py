"""The checks of `lab serve` before it listens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from relab.cli import serve
from relab.core.errors import ConfigurationError
from relab.settings import Settings
from support.lab.process import lab_environment


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


@pytest.mark.skipif(sys.platform == "darwin", reason="there, the checks run in the process of the server")
@pytest.mark.parametrize(
    ("check", "end"),
    [
        ("os.kill(os.getpid(), 9)", "UnavailableError: The checks before the start were killed by signal 9."),
        ("raise_error()", "SystemExit: 69"),
        ("signal.raise_signal(signal.SIGINT)", "SystemExit: 130"),
        ("None", "None"),
    ],
)
def test_checks_in_a_child_process_end_as_the_child_does(tmp_path: Path, check: str, end: str) -> None:
    code = f"""
import os, signal
from relab.cli import serve
from relab.core.errors import ConfigurationError

def raise_error():
    raise ConfigurationError("The setting is wrong.", remedy="Correct it.")

serve._check = lambda *_: {check}
try:
    print(serve._check_in_child(None, "127.0.0.1"))
except BaseException as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[0].startswith(end)
    assert len(done.stdout.splitlines()) == 1
    assert ("The setting is wrong." in done.stderr) == (end == "SystemExit: 69")


@pytest.mark.skipif(sys.platform == "darwin", reason="there, the checks run in the process of the server")
def test_server_whose_app_does_not_start_ends_as_unavailable(tmp_path: Path) -> None:
    code = """
import os, sys
from relab.bootstrap import Services
from relab.cli.main import main
from relab.storage.errors import DatabaseUnavailableError

prepare, server = Services.prepare, os.getpid()

def lose_database(services):
    # The database was there for the checks before the start, which run in a child process.
    if os.getpid() == server:
        raise DatabaseUnavailableError("The database went away.")
    prepare(services)

Services.prepare = lose_database
sys.argv = ["lab", "serve", "--port", "0", "--workers", "0"]
main()
"""
    environment = lab_environment(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 69
    assert "The database went away." in done.stderr
    assert done.stderr.splitlines()[-1].startswith("lab: The server did not start. The log names the reason.")
