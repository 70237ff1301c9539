"""Bulk statements on SQLite and on PostgreSQL: rows are read back unchanged, and transactions do not deadlock."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import JSON, Table, delete, select, text
from sqlalchemy.exc import OperationalError

from relab.core.ids import new_id
from relab.storage import Database, bulk
from relab.storage.base import table_of
from relab.storage.bulk import chunks, insert_or_lock, insert_rows
from relab.storage.errors import ConstraintError, DatabaseUnavailableError
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.received.span_tables import SpanRow
from relab.telemetry.records import record_of
from relab.telemetry.tables import AgentRunRow, TimelineItemRow
from rig.waiting import wait_until
from support.storage.migrated import create_migrated, migrate
from support.storage.transactions import transaction_waits
from support.telemetry.runs import examples, minimal_run

RUNS = table_of(AgentRunRow)
ITEMS = table_of(TimelineItemRow)
SPANS = table_of(SpanRow)

TRICKY = [
    "", " ", "\\N", "\\.", "\\", "\\\\", "'", '"', "''", "tab\there", "line\nend\r\n", "a,b|c;d", "NULL", "null", "%s", "%%",
    ":name", "?", "$1", "{}", "{a,b}", "\x01\x1f\x7f", "ü", "😀", "\u2028\ufeff", "\U0010ffff", "a" * 900, "\u0301", "\u0131", "\u2167",
]  # fmt: skip
texts = st.sampled_from(TRICKY) | st.text(
    st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=20
)
json_texts = st.sampled_from(
    ['{"a": "\\u0000"}', '{"a": "\\\\u0000"}', '{"a":"\\ud83d\\ude00"}', '{"\\\\N": "\\t"}', "{}", '{"a": 1e300}']
) | st.dictionaries(texts, texts | st.integers(-(2**63), 2**63) | st.none() | st.booleans(), max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)
int64 = st.integers(-(2**63), 2**63 - 1)
doubles = st.none() | st.sampled_from([0.0, 5e-324, 1e15, 0.1, -1.5]) | st.floats(allow_nan=False, allow_infinity=False)
item_rows = st.tuples(
    int64, st.integers(-(2**15), 2**15 - 1), st.integers(-(2**31), 2**31 - 1), texts.map(lambda t: t[:200]), doubles,
    json_texts,
)  # fmt: skip


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database for many examples, each of which uses ids of its own."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('bulk') / 'test.db'}"
    else:
        url = create_migrated(request.getfixturevalue("postgres"), "bulk_contract")
    database = Database.open(url)
    migrate(database)
    yield database
    database.close()


@pytest.fixture
def on_postgres(postgres_url: str) -> Iterator[Database]:
    """A PostgreSQL database that several transactions write at once."""
    database = Database.open(postgres_url)
    migrate(database)
    yield database
    database.close()


def run_row(run_id: str, **columns: Any) -> dict[str, Any]:
    """Return the row of a small run."""
    record = record_of(check_agent_run(minimal_run("r")))
    return {**record.columns(1), "run_id": run_id, **columns}


def stored(database: Database, table: Table, **wanted: Any) -> list[tuple[Any, ...]]:
    """Return the stored rows in the order of their keys."""
    statement = select(table).filter_by(**wanted)
    with database.read() as session:
        columns = [column.name for column in table.c]
        rows = [tuple(getattr(row, name) for name in columns) for row in session.execute(statement)]
    return sorted(rows, key=lambda row: str(row[: len(table.primary_key)]))


def in_order(rows: Sequence[tuple[Any, ...]], table: Table) -> list[tuple[Any, ...]]:
    """Return rows in the order of `stored`, with their JSON columns parsed."""
    is_json = [isinstance(column.type, JSON) for column in table.c]
    read = [
        tuple(
            json.loads(value) if flag and value is not None else value for value, flag in zip(row, is_json, strict=True)
        )
        for row in rows
    ]
    return sorted(read, key=lambda row: str(row[: len(table.primary_key)]))


@given(st.lists(item_rows, max_size=8, unique_by=lambda row: row[:4]))
@examples(60)
def test_rows_of_any_content_are_read_back_unchanged(shared: Database, given_rows: list[tuple[Any, ...]]) -> None:
    run_id = new_id()
    rows = [(run_id, *row) for row in given_rows]
    with shared.write() as unit:
        insert_rows(unit.session, ITEMS, rows)
    assert stored(shared, ITEMS, run_id=run_id) == in_order(rows, ITEMS)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 255, 256, 257, 597])
def test_any_number_of_rows_is_stored(shared: Database, count: int) -> None:
    run_id = new_id()
    rows = [(run_id, number, 0, 0, f"s{number}", None, "{}") for number in range(count)]
    with shared.write() as unit:
        insert_rows(unit.session, ITEMS, rows)
    assert stored(shared, ITEMS, run_id=run_id) == in_order(rows, ITEMS)


@pytest.mark.parametrize(
    "packed", [b"", b"\x00", b"\\x00", bytes(range(256)), b"PGCOPY\n\xff\r\n\x00", b"x" * 3_000_000]
)
def test_any_bytes_are_read_back_unchanged(shared: Database, packed: bytes) -> None:
    trace_id = new_id()[:32]
    rows = [(trace_id, "0" * 16, -(2**63), packed), (trace_id, "1" * 16, 2**63 - 1, packed)]
    with shared.write() as unit:
        insert_rows(unit.session, SPANS, rows)
    assert stored(shared, SPANS, trace_id=trace_id) == rows


def test_existing_row_is_a_conflict_and_no_row_is_stored(shared: Database) -> None:
    trace_id = new_id()[:32]
    row = (trace_id, "0" * 16, 0, b"x")

    def insert_twice() -> None:
        with shared.write() as unit:
            insert_rows(unit.session, SPANS, [row])
            insert_rows(unit.session, SPANS, [(trace_id, "1" * 16, 0, b"y"), row])

    with pytest.raises(ConstraintError):
        insert_twice()
    assert stored(shared, SPANS, trace_id=trace_id) == []


@pytest.mark.parametrize("statement", ["insert_rows", "insert_or_lock"])
def test_broken_connection_is_reported_as_unavailable_database(on_postgres: Database, statement: str) -> None:
    def write() -> None:
        with on_postgres.write() as unit:
            process = unit.session.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with on_postgres.engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:process, 10000)"), {"process": process})
            if statement == "insert_rows":
                insert_rows(unit.session, SPANS, [("0" * 32, "0" * 16, 0, b"x")])
            else:
                insert_or_lock(unit.session, RUNS, [run_row("a")])

    with pytest.raises(DatabaseUnavailableError):
        write()
    insert(on_postgres, "b")
    assert [row[0] for row in stored(on_postgres, RUNS)] == ["b"]


@pytest.mark.parametrize("statement", ["insert_rows", "insert_or_lock"])
def test_table_that_stays_locked_is_reported_as_unavailable_database(on_postgres: Database, statement: str) -> None:
    def write() -> None:
        with on_postgres.write() as unit:
            unit.session.execute(text("SET LOCAL lock_timeout = '50ms'"))
            if statement == "insert_rows":
                insert_rows(unit.session, SPANS, [("0" * 32, "0" * 16, 0, b"x")])
            else:
                insert_or_lock(unit.session, RUNS, [run_row("a")])

    with on_postgres.write() as unit:
        unit.session.execute(text("LOCK TABLE spans, agent_runs IN EXCLUSIVE MODE"))
        with pytest.raises(DatabaseUnavailableError):
            write()


run_rows = st.fixed_dictionaries(
    {
        "agent_name": texts.map(lambda t: t[:500]),
        "agent_version": st.none() | texts,
        "conversation_id": st.none() | texts.map(lambda t: t[:500]),
        "started_at": int64,
        "ended_at": st.none() | int64,
        "total_cost_usd": doubles,
        "tool_stats": json_texts,
        "search_text": texts,
        "data": json_texts,
        "mapper_version": st.none() | st.integers(0, 2**15 - 1),
    }
)


@given(st.lists(run_rows, min_size=1, max_size=4), texts.map(lambda t: t[:100]))
@examples(60)
def test_new_rows_are_inserted_and_known_rows_not_changed(
    shared: Database, contents: list[dict[str, Any]], tail: str
) -> None:
    prefix = new_id()
    rows = [run_row(f"{prefix}-{number}-{tail}", **content) for number, content in enumerate(contents)]
    ids = [row["run_id"] for row in rows]
    as_tuples = [tuple(row[column.name] for column in RUNS.c) for row in rows]
    with shared.write() as unit:
        assert insert_or_lock(unit.session, RUNS, rows[:-1]) == set()
    other = [{**row, "agent_name": "another", "data": '{"other": 1}'} for row in rows[:-1]]
    with shared.write() as unit:
        assert insert_or_lock(unit.session, RUNS, [rows[-1], *other]) == set(ids[:-1])
    found = [row for run_id in ids for row in stored(shared, RUNS, run_id=run_id)]
    assert sorted(found, key=lambda row: str(row[:1])) == in_order(as_tuples, RUNS)


def test_insert_of_no_rows_returns_no_known_rows(shared: Database) -> None:
    with shared.write() as unit:
        assert insert_or_lock(unit.session, RUNS, []) == set()


def test_insert_of_hundreds_of_rows_returns_the_known_ones(shared: Database) -> None:
    prefix = new_id()
    rows = [run_row(f"{prefix}-{number}") for number in range(700)]
    with shared.write() as unit:
        assert insert_or_lock(unit.session, RUNS, rows[::3]) == set()
    with shared.write() as unit:
        assert insert_or_lock(unit.session, RUNS, rows) == {row["run_id"] for row in rows[::3]}
        assert insert_or_lock(unit.session, RUNS, rows[::-1]) == {row["run_id"] for row in rows}


def test_items_are_split_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "VALUES_PER_STATEMENT", 3)
    assert list(chunks("abcdefg")) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    assert list(chunks("abc")) == [["a", "b", "c"]]
    assert list(chunks("")) == []


@contextmanager
def elsewhere(work: Any) -> Iterator[Future[Any]]:
    """Run `work` in another thread while the block runs."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work)


def insert(database: Database, *run_ids: str) -> set[str]:
    with database.write() as unit:
        return insert_or_lock(unit.session, RUNS, [run_row(run_id) for run_id in run_ids])


def test_known_rows_are_locked_until_the_transaction_ends(on_postgres: Database) -> None:
    insert(on_postgres, "a", "b")
    question = text("SELECT run_id FROM agent_runs WHERE run_id = :run_id FOR UPDATE NOWAIT")
    with on_postgres.write() as unit:
        insert_or_lock(unit.session, RUNS, [run_row("a")])
        with on_postgres.engine.connect() as other:
            assert other.execute(question, {"run_id": "b"}).scalar_one() == "b"
            with pytest.raises(OperationalError):
                other.execute(question, {"run_id": "a"})
    with on_postgres.engine.connect() as other:
        assert other.execute(question, {"run_id": "a"}).scalar_one() == "a"


@pytest.mark.parametrize("ending", ["commit", "rollback", "delete"])
def test_upsert_waits_for_an_open_transaction_on_the_same_rows(on_postgres: Database, ending: str) -> None:
    if ending == "delete":
        insert(on_postgres, "a", "c")
    with on_postgres.engine.connect() as connection:
        for run_id in ("a", "c"):
            if ending == "delete":
                connection.execute(delete(RUNS).where(RUNS.c.run_id == run_id))
            else:
                row = run_row(run_id)
                row |= {"tool_stats": json.loads(row["tool_stats"]), "data": json.loads(row["data"])}
                connection.execute(RUNS.insert(), row)
        with elsewhere(lambda: insert(on_postgres, "d", "c", "b", "a")) as answer:
            wait_until(lambda: transaction_waits(on_postgres), what="a transaction waiting for a lock")
            assert not answer.done()
            if ending == "rollback":
                connection.rollback()
            else:
                connection.commit()
            assert answer.result(30) == ({"a", "c"} if ending == "commit" else set())
    assert [row[0] for row in stored(on_postgres, RUNS)] == ["a", "b", "c", "d"]


def test_transactions_that_insert_the_same_rows_in_opposite_order_do_not_deadlock(on_postgres: Database) -> None:
    rounds, ids = 15, [f"{number}-ü" for number in range(40)] + ["B", "a", "_", "Z", "é"]
    start = threading.Barrier(4)
    created: list[set[str]] = []

    def work(seed: int) -> None:
        shuffle = random.Random(seed)
        start.wait(30)
        for turn in range(rounds):
            wanted = [f"{turn}-{run_id}" for run_id in shuffle.sample(ids, 30)]
            created.append(set(wanted) - insert(on_postgres, *wanted))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, seed) for seed in range(4)]:
            done.result()
    everything = [run_id for part in created for run_id in part]
    assert len(everything) == len(set(everything)), "a run was new to two transactions"
    assert set(everything) == {row[0] for row in stored(on_postgres, RUNS)}
