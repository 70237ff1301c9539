"""Database URLs: which are accepted, which are rejected, and that no message contains a password."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from relab.core.errors import ConfigurationError
from relab.storage import Database
from relab.storage.engine import parse_url
from relab.storage.errors import DatabaseDamagedError, DatabaseUnavailableError

SECRET = "hunter2-secret"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_gets_the_psycopg_driver(scheme: str) -> None:
    url = parse_url(f"{scheme}://user:p%40ss@host:5433/name?sslmode=require")
    assert url.drivername == "postgresql+psycopg"
    assert url.username == "user"
    assert url.password == "p@ss"
    assert url.host == "host"
    assert url.port == 5433
    assert url.database == "name"
    assert url.query == {"sslmode": "require"}


def test_sqlite_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert parse_url("sqlite:///data/relab.db").database == str(tmp_path / "data" / "relab.db")
    assert parse_url("sqlite:///~/relab.db").database == str(tmp_path / "user" / "relab.db")
    assert parse_url(f"sqlite:///{tmp_path}/x.db").database == f"{tmp_path}/x.db"


@pytest.mark.parametrize(
    "url",
    ["", "relab.db", f"mysql://u:{SECRET}@h/db", f"oracle+x://u:{SECRET}@h/db", f"postgresql://u:p@h:{SECRET}/db",
     "sqlite://", "sqlite:///:memory:", "sqlite:///file::memory:?uri=true", f"postgresql://u:p@{SECRET}@h/db",
     f"nonsense {SECRET}"],
)  # fmt: skip
def test_any_other_url_is_rejected_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as refusal:
        parse_url(url)
    assert refusal.value.remedy
    assert SECRET not in "".join(traceback.format_exception(refusal.value))


@given(st.text(max_size=60))
def test_any_text_is_accepted_as_a_url_or_rejected(text: str) -> None:
    try:
        url = parse_url(text)
    except ConfigurationError:
        return
    assert url.drivername in {"postgresql+psycopg", "sqlite+pysqlite"}


@pytest.mark.parametrize(
    "url",
    [f"postgresql://user:{SECRET}@127.0.0.1:1/name", f"postgresql://127.0.0.1:1/name?user=me&password={SECRET}"],
)
def test_a_database_that_cannot_be_reached_is_described_without_its_password(url: str) -> None:
    database = Database.open(url)
    assert database.describe().endswith("127.0.0.1:1/name")
    with pytest.raises(DatabaseUnavailableError, match="DATABASE_URL") as refusal:
        database.ping()
    assert SECRET not in database.describe()
    assert SECRET not in "".join(traceback.format_exception(refusal.value))


def test_opening_does_not_connect(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/new/folder/x.db")
    Database.open("postgresql://192.0.2.1/nowhere").close()
    database.close()
    assert not (tmp_path / "new" / "folder" / "x.db").exists()


def test_folder_that_cannot_be_created_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigurationError) as caught:
        Database.open(f"sqlite:///{tmp_path}/file/sub/x.db")
    assert "file/sub" in caught.value.message
    assert "RELAB_HOME" in caught.value.remedy


def test_exhausted_connection_pool_raises_database_unavailable(tmp_path: Path) -> None:
    database = Database(create_engine(f"sqlite:///{tmp_path}/x.db", pool_size=1, max_overflow=0, pool_timeout=0.01))
    with (
        database.read() as session,
        session.connection(),
        pytest.raises(DatabaseUnavailableError, match=r"connections .* in use"),
    ):
        database.ping()
    database.close()


def test_invalid_database_file_is_not_reported_as_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_text("this is a letter, not a database. " * 500)
    database = Database.open(f"sqlite:///{path}")
    with pytest.raises(DatabaseDamagedError, match="not a database") as at_read:
        database.ping()
    with pytest.raises(DatabaseDamagedError, match="not a database") as at_write, database.write() as unit:
        unit.session.execute(text("SELECT 1"))
    assert not isinstance(at_read.value, DatabaseUnavailableError)
    assert not isinstance(at_write.value, DatabaseUnavailableError)
    database.close()
    assert path.read_text().startswith("this is a letter")


def test_sqlite_file_that_cannot_be_opened_names_the_folder_and_not_a_server(tmp_path: Path) -> None:
    (tmp_path / "relab.db").mkdir()
    database = Database.open(f"sqlite:///{tmp_path / 'relab.db'}")

    with pytest.raises(DatabaseUnavailableError, match="this user may write there") as raised:
        database.ping()

    assert "server" not in str(raised.value)
    database.close()
