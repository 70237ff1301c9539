"""The start of `relab` and `lab`: it loads no large modules and opens no files or connections."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.lab.process import lab_environment
from support.storage.migrated import prepare_home

HEAVY = [
    "alembic", "altair", "anthropic", "duckdb", "fastapi", "google.protobuf", "jinja2", "langchain_anthropic", "langchain_core",
    "langchain_openai", "langgraph", "numpy", "openai", "pathspec", "prometheus_client", "psycopg", "pygments", "ray", "redis", "rich.console",
    "rq", "scipy", "sentence_transformers", "sqlalchemy", "sqlalchemy.dialects.postgresql", "sqlalchemy.orm", "stable_baselines3", "structlog",
    "threadpoolctl", "torch", "uvicorn", "vl_convert", "yaml", "relab.builds.logs.relevance", "relab.incidents.postmortem.composition",
    "relab.incidents.probes.catalogue", "relab.incidents.response.responder", "relab.jobs.repository", "relab.jobs.runner", "relab.llm",
    "relab.progress.repository", "relab.rca.analyzer", "relab.rca.behaviours.rules", "relab.rca.ranking.ranker", "relab.telemetry.export.service", "relab.telemetry.ingest.intake", "relab.telemetry.received.log_tables",
    "relab.telemetry.prices", "relab.telemetry.records", "relab.telemetry.overview.rollups", "relab.telemetry.search_tables",
    "relab.telemetry.received.span_tables", "relab.telemetry.ingest.store", "relab.rollouts.targets.opening", "relab.stats.paired",
]  # fmt: skip

REPORT = f"""
import sys
loaded = [name for name in {HEAVY!r} if name in sys.modules]
sys.stderr.write("loaded: " + " ".join(loaded))
"""

HELP = f"""
import sys
sys.argv = ["lab", "--help"]
from relab.cli.main import main
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
{REPORT}
"""

# Opening a database or a connection raises an audit event; importing must raise none.
IMPORT_ALL = """
import importlib, pkgutil, sys
seen = []
watched = {"socket.connect", "sqlite3.connect", "subprocess.Popen", "os.mkdir"}
sys.addaudithook(lambda event, args: seen.append((event, str(args))) if event in watched else None)
import relab
for module in pkgutil.walk_packages(relab.__path__, "relab."):
    # Running it is the purpose of `__main__`; the migrations' environment exists only inside of Alembic; the last two need
    # the extra [rl].
    left_out = ("__main__", ".migrations.env", ".training.dqn", ".training.environment")
    if not module.name.endswith(left_out):
        importlib.import_module(module.name)
sys.stderr.write("seen: " + repr(seen))
"""


def run(code: str, home: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=lab_environment(home), capture_output=True, text=True, check=False, cwd=home
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "code", ["import relab\n" + REPORT, "import relab.cli.main\n" + REPORT, HELP], ids=["relab", "cli", "help"]
)
def test_start_loads_no_large_modules(code: str, tmp_path: Path) -> None:
    assert run(code, tmp_path).endswith("loaded: ")


COMPOSED = {
    "list": """
from relab.telemetry.models import RunFilter
with open_services() as services:
    services.telemetry.list_runs(RunFilter(), cursor=None, limit=5)
""",
    "jobs": """
with open_services() as services:
    services.queue.list()
""",
    "overview": """
with open_services() as services:
    services.telemetry.overview(1)
""",
    "worker": """
with open_services() as services:
    services.runner().run_next()
    services.job_backend.ping()
""",
    "server": """
from relab.cli import http_server
from relab.server import create_app
with open_services() as services:
    create_app(services).openapi()
    assert services.flags and services.knowledge and services.notices
""",
}
"""Code that composes the services of each kind of process."""
SUMS = {"yaml", "relab.telemetry.prices", "relab.telemetry.overview.rollups"}
"""Modules that the sums load: the prices are part of the sums and come from a YAML file."""
ANALYSES = {"relab.progress.repository", "relab.telemetry.records", "relab.telemetry.search_tables"}
"""Modules that the service of analyses loads."""
ALLOWED = {
    "list": {"sqlalchemy"},
    "jobs": {"sqlalchemy", "relab.jobs.repository"},
    "overview": {"sqlalchemy", *SUMS},
    "worker": {"sqlalchemy", "relab.jobs.repository", "relab.jobs.runner", "relab.llm", *ANALYSES},
    "server": {
        "sqlalchemy",
        "fastapi",
        "prometheus_client",
        "uvicorn",
        "relab.jobs.repository",
        "relab.jobs.runner",
        *ANALYSES,
    },
}


@pytest.mark.parametrize("process", list(COMPOSED))
def test_idle_process_has_loaded_only_required_modules(process: str, tmp_path: Path) -> None:
    prepare_home(tmp_path, {})
    code = f"""
import sys
from relab.cli.context import open_services
{COMPOSED[process]}
{REPORT}
"""
    loaded = set(run(code, tmp_path).rpartition("loaded: ")[2].split())

    assert loaded <= ALLOWED[process]


LISTS = {
    "agent-runs": ["agent-runs", "list"],
    "builds": ["builds", "list"],
    "incidents": ["incidents", "list"],
    "rollouts": ["rollout", "list"],
    "flags": ["flags", "list"],
    "jobs": ["jobs", "list"],
}


@pytest.mark.parametrize("arguments", LISTS.values(), ids=LISTS)
def test_short_command_loads_neither_the_orm_nor_rich(arguments: list[str], tmp_path: Path) -> None:
    prepare_home(tmp_path, {})
    code = f"""
import sys
sys.argv = ["lab", *{arguments!r}]
from relab.cli.main import main
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
loaded = [name for name in ("rich.console", "rich.table", "sqlalchemy.orm") if name in sys.modules]
sys.stderr.write("loaded: " + " ".join(loaded))
"""
    assert run(code, tmp_path).endswith("loaded: ")


def test_table_of_runs_loads_neither_the_orm_nor_rich(tmp_path: Path) -> None:
    prepare_home(tmp_path, {})
    code = """
import sys
from relab.cli.context import open_services
from relab.telemetry.ingest.reading import read_agent_run
with open_services() as services:
    services.telemetry.ingest(read_agent_run(
        b'{"run_id": "a", "agent_name": "b", "started_at": "2026-01-15T10:30:00Z", "status": "success"}'
    ))
sys.argv = ["lab", "agent-runs", "list"]
from relab.cli.main import main
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
loaded = [name for name in ("rich.console", "rich.table", "sqlalchemy.orm") if name in sys.modules]
sys.stderr.write("loaded: " + " ".join(loaded))
"""
    assert run(code, tmp_path).endswith("loaded: ")


def test_command_is_built_without_the_other_commands(tmp_path: Path) -> None:
    code = """
import sys
sys.argv = ["lab", "agent-runs", "--help"]
from relab.cli.main import main
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
loaded = [name for name in ("relab.cli.agent_runs.app", "relab.cli.experiments.app", "relab.cli.incidents.app") if name in sys.modules]
sys.stderr.write("loaded: " + " ".join(loaded))
"""
    assert run(code, tmp_path).endswith("loaded: relab.cli.agent_runs.app")


def test_process_that_may_use_rq_does_not_load_it_before_the_first_job(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from relab.bootstrap import build
from relab.settings import load_settings
services = build(load_settings(Path.cwd(), redis_url="redis://127.0.0.1:9/0"))
assert services.settings.job_backend == "rq"
services.close()
{REPORT}
"""
    assert run(code, tmp_path).endswith("loaded: sqlalchemy")


def test_importing_opens_and_connects_nothing(tmp_path: Path) -> None:
    assert run(IMPORT_ALL, tmp_path).endswith("seen: []")
    assert list(tmp_path.iterdir()) == []


def test_composing_services_connects_nothing(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from relab.server import create_app
from relab.bootstrap import build
from relab.settings import load_settings
seen = []
watched = {"socket.connect", "sqlite3.connect"}
sys.addaudithook(lambda event, args: seen.append((event, str(args))) if event in watched else None)
url = {"database_url": "postgresql://nobody@127.0.0.1:9/none", "redis_url": "redis://127.0.0.1:9/0"}
for options in ({}, url):
    create_app(build(load_settings(Path.cwd(), **options)))
sys.stderr.write("seen: " + repr(seen))
"""
    assert run(code, tmp_path).endswith("seen: []")
