"""Create the template of a testbed's initial data once, and copy it at the beginning of every episode.

An episode is one test of a responder. A template is a folder with four entries: `postgres/` (PostgreSQL's data folder
after an orderly shutdown), `search/` (the products to search), `credentials.json` (the passwords of the database roles)
and `log` (what PostgreSQL's programs printed at the creation). The name of the folder is a digest of what determines
its content: the version and configuration of PostgreSQL, and the files of the schema and of the initial data.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib
import importlib.util
import json
import os
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from relab.core.atomic_files import synchronize_tree
from relab.core.logging import get_logger
from relab.testbed.errors import StartError
from relab.testbed.layout import Layout, write_json
from relab.testbed.supervisor import postgres
from relab.testbed.supervisor.copying import copy_tree, remove_tree
from relab.testbed.supervisor.ports import HeldPort
from relab.testbed.supervisor.postgres import APPLICATION, DATABASE, NewCluster, PostgresPasswords
from relab.testbed.supervisor.programs import PostgresPrograms

FORMAT: Final = 1
"""Version of the template's format, a part of its digest: increase it when templates of older code cannot be used any
more."""
PRODUCTS: Final = "products.jsonl"
_MAX_TEMPLATES: Final = 3
_LOCK_POLL_INTERVAL_S: Final = 0.05

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Template:
    """A finished template: prepared data folders of the database and the search engine, which new testbeds copy.

    Attributes:
        folder: the template's folder.
        programs: the PostgreSQL installation that created it.
    """

    folder: Path
    programs: PostgresPrograms

    @property
    def digest(self) -> str:
        """The name of the template (prepared data folders): a digest of the versions of schema, data and programs."""
        return self.folder.name

    def credentials(self) -> PostgresPasswords:
        """Return the passwords of the database roles. The template and all of its copies have the same passwords."""
        return PostgresPasswords(**json.loads((self.folder / "credentials.json").read_bytes()))

    def copy_to(self, layout: Layout) -> None:
        """Copy the template's database and search files to a testbed that does not have them yet.

        Raises:
            OSError: the disk is full, for example.
        """
        copy_tree(self.folder / "postgres", layout.postgres, owner=self.programs.owner)
        copy_tree(self.folder / "search", layout.search)


def digest_of(programs: PostgresPrograms, seed_module: str) -> str:
    """Return the name of the template that a seed module fills: a digest of 16 hexadecimal digits.

    A template is the prepared initial data of testbeds; a seed module is the Python module that creates the data. The
    digest covers PostgreSQL's version and configuration, and all Python and SQL files in the module's folder.

    Raises:
        StartError: the module does not exist.
    """
    folder = _seed_folder(seed_module)
    parts = hashlib.sha256(f"{FORMAT}\n{programs.version}\n{seed_module}\n".encode())
    parts.update(postgres.configuration(programs).encode())
    for path in sorted(path for path in folder.rglob("*") if path.suffix in {".py", ".sql"}):
        parts.update(f"{path.relative_to(folder)}\n".encode())
        parts.update(path.read_bytes())
    return parts.hexdigest()[:16]


async def ensure(programs: PostgresPrograms, seed_module: str, templates: Path) -> Template:
    """Return the template of a seed module, and create it first if it does not exist.

    A template is a folder with a prepared database and search files, which are copied to each testbed.

    Args:
        programs: the PostgreSQL installation.
        seed_module: the name of the module that creates the initial data.
        templates: the folder of all templates.

    Raises:
        StartError, NotAnsweringError: the template cannot be created.
        OSError: the disk is full, for example.
    """
    folder = templates / await asyncio.to_thread(digest_of, programs, seed_module)
    if folder.is_dir():
        return Template(folder, programs)
    await asyncio.to_thread(templates.mkdir, parents=True, exist_ok=True)
    lock = os.open(templates / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        await _acquire(lock)
        if not folder.is_dir():
            _remove_old(templates)
            await _make(programs, seed_module, folder)
    finally:
        os.close(lock)
    return Template(folder, programs)


async def _acquire(lock: int) -> None:
    """Wait for the exclusive lock on the open file `lock`, and acquire it; closing the file releases the lock."""
    # Not in a thread: a supervisor that is stopped meanwhile would have to wait for the thread.
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(_LOCK_POLL_INTERVAL_S)
        else:
            return


async def _make(programs: PostgresPrograms, seed_module: str, folder: Path) -> None:
    fresh = Path(tempfile.mkdtemp(prefix="new-", dir=folder.parent))
    port = HeldPort()
    try:
        data = fresh / "postgres"
        data.mkdir(mode=0o700)
        if programs.owner is not None:
            os.chown(data, programs.owner.uid, programs.owner.gid)
        credentials = PostgresPasswords.new()
        cluster = NewCluster(programs, data, log=fresh / "log", port=port.port)
        await cluster.make(credentials)
        (fresh / "search").mkdir()

        def work(at: int) -> None:
            _fill(at, credentials, programs, seed_module, fresh / "search" / PRODUCTS)

        try:
            await cluster.fill(work)
        except Exception as error:
            if isinstance(error, StartError):
                raise
            # The seed may raise any exception; report it as the reason of the failed start.
            raise StartError(f"The seed {seed_module} fails: {type(error).__name__}: {error}") from error
        write_json(fresh / "credentials.json", asdict(credentials))
        # Where a folder has a template's name, the template counts as complete.
        await asyncio.to_thread(synchronize_tree, fresh)
        # If the start is stopped, `fresh` is removed while a thread still runs, which could then place a part of it.
        fresh.rename(folder)  # noqa: ASYNC240 a thread is not safe here
        _log.info("template_made", digest=folder.name)
    finally:
        port.close()
        remove_tree(fresh)


def _fill(
    port: int, credentials: PostgresPasswords, programs: PostgresPrograms, seed_module: str, products: Path
) -> None:
    from psycopg import sql  # noqa: PLC0415 only to make a template

    with closing(postgres.connect(port, credentials.superuser)) as connection:
        role, database = sql.Identifier(APPLICATION), sql.Identifier(DATABASE)
        password = sql.Literal(credentials.application)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
        connection.execute(sql.SQL("GRANT pg_monitor TO {}").format(role))
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
    if programs.statements:
        with closing(postgres.connect(port, credentials.superuser, database=DATABASE)) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
    module: Any = importlib.import_module(seed_module)
    schema = (_seed_folder(seed_module) / "schema.sql").read_text(encoding="utf-8")
    with closing(postgres.connect(port, credentials.application, user=APPLICATION, database=DATABASE)) as connection:
        connection.execute(schema.encode())
        # The seed commits by itself, so it gets a connection without autocommit.
        connection.autocommit = False
        module.seed(connection)
        connection.commit()
    module.write_products(products)
    with closing(postgres.connect(port, credentials.superuser, database=DATABASE)) as connection:
        # After this, autovacuum only has work that the episode itself creates.
        connection.execute("VACUUM (FREEZE, ANALYZE)")
        if programs.statements:
            connection.execute("SELECT pg_stat_statements_reset()")
        connection.execute("CHECKPOINT")


def _seed_folder(seed_module: str) -> Path:
    try:
        spec = importlib.util.find_spec(seed_module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise StartError(f"There is no module {seed_module} to fill the database with.")
    return Path(spec.origin).parent


def _remove_old(templates: Path) -> None:
    """Remove incomplete templates (folders of prepared initial data), and all complete ones except the two newest."""
    folders = [path for path in templates.iterdir() if path.is_dir()]
    finished = sorted(
        (path for path in folders if not path.name.startswith("new-")), key=lambda path: path.stat().st_mtime
    )
    for path in [path for path in folders if path.name.startswith("new-")] + finished[: -_MAX_TEMPLATES + 1]:
        remove_tree(path)
