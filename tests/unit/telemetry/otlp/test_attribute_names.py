"""The attribute names that the mapper reads are names of the conventions, or of producers that are listed here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import opentelemetry.semconv._incubating.attributes
import opentelemetry.semconv.attributes
from openinference.semconv import trace

from relab.telemetry.otlp import facts, outcome, projection, roles, text

DOTTED = re.compile(r"[a-z][a-z_]*(\.[a-z][a-z_]*)+\.?")
OPENLLMETRY = {"traceloop.entity.input", "traceloop.entity.name", "traceloop.entity.output", "traceloop.span.kind"}
FLATTENED_LISTS = {
    "gen_ai.completion.", "gen_ai.prompt.", "llm.input_messages.", "llm.output_messages.", "message.contents.", "message.tool_calls.",
    "retrieval.documents.",
}  # fmt: skip
"""Prefixes: the conventions name the list, each attribute has an index and a field."""
IN_NO_PACKAGE = {
    "gen_ai.retrieval.query",  # before it became gen_ai.retrieval.query.text
    "gen_ai.usage.cost",  # OpenRouter and LiteLLM
    "guardrail.passed", "guardrail.result", "guardrail.triggered",  # OpenInference names the kind of span only
    "relab.agent_run_id", "relab.prompt_hash", "relab.task_id",
}  # fmt: skip


def conventions() -> Iterator[str]:
    """Yield every attribute name of both packages."""
    for package in (opentelemetry.semconv.attributes, opentelemetry.semconv._incubating.attributes):
        for module in iter_modules(package.__path__, f"{package.__name__}."):
            yield from (value for value in vars(import_module(module.name)).values() if isinstance(value, str))
    for member in vars(trace).values():
        if isinstance(member, type):
            yield from (value for value in vars(member).values() if isinstance(value, str))


def names_read() -> Iterator[str]:
    """Yield the dotted names in the modules of the mapper, without those of docstrings and of modules."""
    for module in (facts, outcome, projection, roles, text):
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED.fullmatch(node.value):
                yield node.value


def test_every_attribute_name_is_one_that_producers_send() -> None:
    known = {*conventions(), *OPENLLMETRY, *FLATTENED_LISTS, *IN_NO_PACKAGE}

    assert set(names_read()) - known == set()


def test_every_listed_exception_is_read_and_is_in_no_package() -> None:
    exceptions = OPENLLMETRY | FLATTENED_LISTS | IN_NO_PACKAGE

    assert exceptions - set(names_read()) == set()
    assert exceptions & set(conventions()) == set()
