"""Reading a runbook file: a valid one gives a runbook, and every error names file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relab.knowledge.errors import RunbookError
from relab.knowledge.models import Expectation, FactCondition, Operator, Risk, Runbook, RunbookAction
from relab.knowledge.reading import MAX_BYTES, parse_runbook, read_runbook
from relab.knowledge.writing import write_runbook
from support.incidents.runbooks import TEXT, expects

SOURCE = "leak.md"


def changed(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new)


def problems(text: str) -> tuple[tuple[str, str], ...] | None:
    """Return the problems of a text, or None if it is a valid runbook."""
    try:
        parse_runbook(text, SOURCE)
    except RunbookError as error:
        return error.problems
    return None


def refusal(text: str) -> dict[str, str]:
    with pytest.raises(RunbookError) as caught:
        parse_runbook(text, SOURCE)
    assert caught.value.message.startswith("leak.md:"), "the first one is in the message"
    return dict(caught.value.problems)


def test_complete_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / SOURCE
    path.write_text(TEXT)

    assert read_runbook(path) == Runbook(
        cause="connection_pool_leak",
        title="The service leaks database connections",
        symptoms=("requests wait for a database connection and time out",),
        expects=(
            expects("pool.used_pct", 95.0, 0.95, 0.05),
            expects("dependency.database", "ok", 0.9, 0.6, Operator.IS),
        ),
        looks=("pool", "database.sessions"),
        actions=(
            RunbookAction("remediate-pool", {"worker": "{worker.name}", "count": 3}, "It gives back what is held."),
        ),
        mended=(FactCondition("pool.pending", Operator.AT_MOST, 0.0),),
        risk=Risk.LOW,
        prior=1.5,
        text="# What to do\n\nAsk the *pool*.",
        source=str(path),
    )
    assert read_runbook(path).actions[0].needs == ("worker.name",)


def test_unchanged_file_is_parsed_once(tmp_path: Path) -> None:
    path, other = tmp_path / SOURCE, tmp_path / f"other-{SOURCE}"
    path.write_text(TEXT)
    other.write_text(TEXT)
    first = read_runbook(path)

    assert read_runbook(path) is first
    assert read_runbook(other).source == str(other)
    path.write_text(TEXT.replace("Ask the *pool*", "Restart the *pool*"))
    assert read_runbook(path).text == "# What to do\n\nRestart the *pool*."


def test_optional_fields_have_defaults() -> None:
    text = "---\ncause: c\ntitle: T\nrisk: high\nsymptoms: [it fails]\nexpects: [{fact: a, is_not: true, likely: 1, otherwise: 0}]\n---"
    read = parse_runbook(text, SOURCE)

    assert read.looks == ()
    assert read.actions == ()
    assert read.mended == ()
    assert read.prior == 1.0
    assert read.text == ""
    assert read.expects[0].condition == FactCondition("a", Operator.IS_NOT, True)


def test_line_ends_of_windows_and_a_byte_order_mark_are_read() -> None:
    assert parse_runbook("\ufeff" + TEXT.replace("\n", "\r\n"), SOURCE) == parse_runbook(TEXT, SOURCE)


def test_horizontal_rule_in_the_text_does_not_end_the_front_matter() -> None:
    assert parse_runbook(TEXT + "\n---\nmore", SOURCE).text.endswith("---\nmore")


@pytest.mark.parametrize(
    ("old", "new", "place", "said"),
    [
        ("cause: connection_pool_leak", "cause: Pool Leak", "leak.md:2: cause", "such as cache_down"),
        ("cause: connection_pool_leak", "cause: unknown", "leak.md:2: cause", "'unknown' is reserved"),
        ("cause: connection_pool_leak\n", "", "leak.md:2: cause", "is REQUIRED and missing"),
        ("title: The service leaks database connections", "title: ''", "leak.md:3: title", "at least 1 character"),
        ("title: The service", 'title: "The\\nservice"', "leak.md:3", "is not YAML"),
        ("prior: 1.5", "prior: 0", "leak.md:4: prior", "greater than 0"),
        ("prior: 1.5", "prior: often", "leak.md:4: prior", "valid number"),
        ("prior: 1.5", "prior: true", "leak.md:4: prior", "valid number"),
        ("prior: 1.5", "prior: 1.5\nprior: 2", "leak.md:5", "the key 'prior' occurs twice"),
        ("risk: low", "risk: none", "leak.md:5: risk", "'low', 'medium' or 'high'"),
        ("looks: [", "loks: [", "leak.md:8: loks", "not a known field (did you mean 'looks'?)"),
        ("at_least: 95", "at_lest: 95", "leak.md:10: expects.0.at_lest", "(did you mean 'at_least'?)"),
        ("at_least: 95", "greater: 95", "leak.md:10: expects.0.greater", "the fields are fact, at_least, at_most, is"),
        ("at_least: 95", "at_least: high", "leak.md:10: expects.0.at_least", "valid number"),
        ("at_least: 95", "at_least: yes", "leak.md:10: expects.0.at_least", "valid number"),
        ("at_least: 95, ", "", "leak.md:10: expects.0", "exactly one of at_least, at_most, is, is_not, not none"),
        ("is: ok", "is: ok, at_most: 3", "leak.md:11: expects.1", "not at_most and is"),
        ("is: ok", "is: [ok]", "leak.md:11: expects.1.is", "true, false, a number or a text"),
        ("likely: 0.9,", "likely: 90,", "leak.md:11: expects.1.likely", "less than or equal to 1"),
        (", otherwise: 0.6", "", "leak.md:11: expects.1.otherwise", "is REQUIRED"),
        ("action: remediate-pool", "action: rm -rf /", "leak.md:13: actions.0.action", "such as restart-worker"),
        ("count: 3", "count: [3]", "leak.md:13: actions.0.parameters.count", "true, false, a number or a text"),
        ("at_most: 0", "at_most: 1e999", "leak.md:15", "beyond the range"),
        ("fact: pool.pending", 'fact: ""', "leak.md:15: mended.0.fact", "at least 1 character"),
        ("mended:\n  - {", "mended:\n  {", "leak.md:14: mended", "must be a list"),
    ],
)
def test_error_names_file_line_and_field(old: str, new: str, place: str, said: str) -> None:
    told = refusal(changed(old, new))

    assert place in told, told
    assert said in told[place]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("likely: 0.95", "likely: 95", "leak.md:10: expects.0.likely"),
        ("at_least: 95", "is: [95]", "leak.md:10: expects.0.is"),
        ("at_least: 95, ", "", "leak.md:10: expects.0"),
    ],
)
def test_list_with_an_invalid_entry_is_not_reported_as_empty(old: str, new: str, place: str) -> None:
    told = refusal(TEXT[: TEXT.index("  - {fact: dependency")].replace(old, new) + "---\n")

    assert set(told) == {place}


def test_all_errors_are_reported_together() -> None:
    told = refusal(TEXT.replace("risk: low", "risk: none").replace("likely: 0.95", "likely: 95"))

    assert set(told) == {"leak.md:5: risk", "leak.md:10: expects.0.likely"}


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("", "leak.md:1", "no front matter"),
        ("# Only Markdown", "leak.md:1", "no front matter"),
        ("---\ncause: c\n", "leak.md:3", "has no end"),
        ("---\n---\n", "leak.md:2", "is empty"),
        ("---\n- a\n---\n", "leak.md:2", "must have fields"),
        ("---\njust a text\n---\n", "leak.md:2", "must have fields"),
        ("---\na: [\n---\n", "leak.md:2", "is not YAML"),
        ("---\na: !!python/object/apply:os.system ['id']\n---", "leak.md:2", "is not a plain value"),
        ("---\na: !mine b\n---", "leak.md:2", "is not a plain value"),
        ("---\na: &a [*a]\n---", "leak.md:2", "deeper ones"),
        ("---\n" + "[" * 400 + "]" * 400 + "\n---", "leak.md:2", "deeper ones"),
        ("---\na: \x01\n---", "leak.md:2", "U+0001"),
        ('---\ntitle: "a\\0b"\n---', "leak.md:2", "an invalid character"),
        (TEXT + "x" * MAX_BYTES, "leak.md:1", "is larger than"),
    ],
)
def test_invalid_runbook_is_rejected(text: str, place: str, said: str) -> None:
    told = refusal(text)

    assert place in told, told
    assert said in told[place]


def test_yaml_alias_bomb_is_rejected() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    long = "a: &a " + "x" * 100_000 + "\nb: [" + ", ".join(["*a"] * 1_000) + "]"

    for bomb in ("\n".join(lines), long):
        assert refusal(f"---\n{bomb}\n---\n")


@pytest.mark.parametrize("name", ["absent.md", ".", "binary.md", "large.md"])
def test_files_that_cannot_be_read_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "binary.md").write_bytes(b"---\n\xff")
    (tmp_path / "large.md").write_bytes(b" " * (MAX_BYTES + 1))

    with pytest.raises(RunbookError):
        read_runbook(tmp_path / name)


@given(text=st.one_of(st.text(), st.text("-\n:{}[]&*!#'\"ab01. "), st.binary().map(lambda raw: raw.decode("latin-1"))))
def test_any_text_is_a_runbook_or_is_rejected(text: str) -> None:
    for whole in (text, f"---\n{text}\n---\n{text}", TEXT.replace("risk: low", text)):
        told = problems(whole)
        assert told is None or told


def expects_of(condition: FactCondition, likely: float, otherwise: float) -> Expectation:
    return expects(condition.fact, condition.value, likely, otherwise, condition.operator)


LINES = st.text(
    st.characters(min_codepoint=32, exclude_categories=["Cs"], exclude_characters="\x7f"), min_size=1, max_size=40
)
NAMES = st.from_regex(r"\A[a-z][a-z0-9_.]{0,20}\Z")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.one_of(st.booleans(), NUMBERS, LINES)
CONDITIONS = st.one_of(
    st.builds(FactCondition, NAMES, st.sampled_from([Operator.AT_LEAST, Operator.AT_MOST]), NUMBERS),
    st.builds(FactCondition, NAMES, st.sampled_from([Operator.IS, Operator.IS_NOT]), VALUES),
)
SHARES = st.floats(0, 1)
RUNBOOKS = st.builds(
    Runbook,
    cause=st.from_regex(r"\A[a-z][a-z0-9_]{0,20}\Z").filter(lambda cause: cause != "unknown"),
    title=LINES,
    symptoms=st.lists(LINES, min_size=1, max_size=3).map(tuple),
    expects=st.lists(
        st.builds(expects_of, CONDITIONS, SHARES, SHARES),
        min_size=1,
        max_size=3,
    ).map(tuple),
    looks=st.lists(NAMES, max_size=2).map(tuple),
    actions=st.lists(
        st.builds(
            RunbookAction, st.from_regex(r"\A[a-z][a-z-]{0,20}\Z"), st.dictionaries(LINES, VALUES, max_size=2), LINES
        ),
        max_size=2,
    ).map(tuple),
    mended=st.lists(CONDITIONS, max_size=2).map(tuple),
    requires=st.lists(CONDITIONS, max_size=2).map(tuple),
    risk=st.sampled_from(Risk),
    prior=st.floats(0.001, 1_000),
    text=st.text("ab #*\n-", max_size=40).map(str.strip),
    source=st.just(SOURCE),
)


@settings(max_examples=50)
@given(runbook=RUNBOOKS)
def test_written_runbook_is_read_back_unchanged(runbook: Runbook) -> None:
    assert parse_runbook(write_runbook(runbook), SOURCE) == runbook
