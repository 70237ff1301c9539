"""The documents: the commands, options and settings that they name exist."""

from __future__ import annotations

import functools
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import AliasChoices, BaseModel

import relab
from relab.cli.main import build_app
from relab.settings import Settings

PROJECT = Path(relab.__file__).parent.parent.parent
DOCUMENTS = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("[!.]*/README.md")]
FENCE = re.compile(r"^ *```[a-z]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|[;&|] *|\$ *|[A-Z_]+=\S+ +)lab +([^\n;&|#]*)", re.MULTILINE)
INLINE = re.compile(r"`lab +([^`\n]+)`")

# Commands of contexts that are designed but not built yet.
FUTURE: frozenset[str] = frozenset({"run"})


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words after `lab` of every command in the text's code."""
    lines = [found for block in FENCE.findall(text) for found in COMMAND.findall(block.replace("\\\n", " "))]
    for line in [*lines, *INLINE.findall(text)]:
        yield shlex.split(line.replace("…", " ").strip(), posix=False)


@functools.cache
def command_tree() -> Any:
    """Return the commands and options of `lab`."""
    return typer.main.get_command(build_app())


def _with_default(node: Any) -> Any:
    """Return the command that a group runs if none of its commands is named, else the group or command itself."""
    default = getattr(node, "default_command", None)
    return node if default is None else node.commands[default]


def check_command(words: list[str]) -> str | None:
    """Return the first word that is no command or option of `lab`, or None; each alternative of `a|b` is checked."""
    node: Any = command_tree()
    for word in words:
        if word.startswith("--"):
            node = _with_default(node)
            options = {option for parameter in node.params for option in (*parameter.opts, *parameter.secondary_opts)}
            if word.partition("=")[0] not in options | {"--help"}:
                return word
            continue
        children = getattr(node, "commands", None)
        if children is None:
            continue
        names = word.strip("[]").split("|")
        if names[0] not in children and _with_default(node) is not node:
            node = _with_default(node)
            continue
        if any(name not in children for name in names if name.islower()):
            return word
        if names[0] not in children:
            return None
        node = children[names[0]]
    return None


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_commands_in_documents_exist(path: Path) -> None:
    wrong = {
        " ".join(words): missing
        for words in commands(path.read_text())
        if words and words[0] not in FUTURE and (missing := check_command(words))
    }

    assert wrong == {}


def test_command_check_finds_unknown_commands_and_options() -> None:
    text = "```console\n$ lab agent-runs list --status failure\n$ lab nonsense\n```\nand `lab rca RUN_ID --folow`"

    found = [check_command(words) for words in commands(text)]
    assert found == [None, "nonsense", "--folow"]


def setting_names(model: type[BaseModel], prefix: str = "RELAB_") -> Iterator[str]:
    """Yield the environment variables that a settings model reads."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from setting_names(annotation, f"{prefix}{name.upper()}__")
            continue
        yield f"{prefix}{name.upper()}"
        if isinstance(field.validation_alias, AliasChoices):
            yield from (str(choice) for choice in field.validation_alias.choices)


def example_names() -> set[str]:
    text = (PROJECT / ".env.example").read_text()
    return set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))


def test_example_settings_file_names_only_existing_settings() -> None:
    assert example_names() - set(setting_names(Settings)) == set()


def test_every_setting_is_in_the_example_settings_file() -> None:
    plain = {name.removeprefix("RELAB_") for name in example_names()}
    # The example lies in the home folder, so it cannot set `RELAB_HOME`.
    assert {name.removeprefix("RELAB_") for name in setting_names(Settings)} - plain == {"HOME"}


def test_example_settings_file_has_the_settings_of_the_seed() -> None:
    seed = {"DATABASE_URL", "REDIS_URL", "APP_ENV", "APP_INGEST_SECRET", "LOG_LEVEL", "OPENAI_API_KEY", "RQ_QUEUE_NAME"}

    assert seed <= example_names()


def test_settings_in_documents_exist() -> None:
    # The tests and the evaluations read settings that the product does not have.
    known = set(setting_names(Settings)) | {"RELAB_REQUIRE_ALL", "RELAB_DATA"}
    for path in DOCUMENTS:
        # Tables of renamed settings have the old name in the first column.
        text = (
            re.sub(r"^\| `[^|]*\|", "|", path.read_text(), flags=re.MULTILINE)
            if path.name == "CHANGELOG.md"
            else path.read_text()
        )
        named = set(re.findall(r"\bRELAB_[A-Z0-9_]*[A-Z0-9]\b", text))
        assert named - known == set(), path


@pytest.mark.parametrize("path", sorted(PROJECT.glob("constraints*.txt")), ids=lambda path: path.name)
def test_constraints_pin_every_package_and_name_no_host(path: Path) -> None:
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    pins = [line for line in lines if line]

    assert pins
    assert not [line for line in path.read_text().splitlines() if "://" in line or "index" in line.split()[:1]]
    for pin in pins:
        assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z0-9,_-]+\])?==[^\s;]+( *;.*)?", pin), pin


def _helps(node: Any, path: tuple[str, ...] = ("lab",)) -> Iterator[tuple[str, str]]:
    """Yield the name of every command and option of the command line, with its help."""
    yield " ".join(path), node.help or ""
    for parameter in node.params:
        yield f"{' '.join(path)} {parameter.name}", getattr(parameter, "help", None) or ""
    for name, child in getattr(node, "commands", {}).items():
        yield from _helps(child, (*path, name))


def test_help_names_only_commands_that_exist() -> None:
    helps = dict(_helps(command_tree()))
    wrong = {where: [words for words in commands(text) if check_command(words)] for where, text in helps.items()}

    assert len(helps) > 300
    assert {where: found for where, found in wrong.items() if found} == {}


def test_messages_name_only_extras_that_exist() -> None:
    extras = set(tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    texts = [*DOCUMENTS, *(PROJECT / "src").rglob("*.py")]
    named = {name: path for path in texts for name in re.findall(r"relab\[([a-z]+)\]", path.read_text())}

    assert named
    assert {name: path for name, path in named.items() if name not in extras} == {}
