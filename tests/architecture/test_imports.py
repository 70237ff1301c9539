"""Imports: the contracts of `pyproject.toml`, and the modules through which contexts may import each other."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import relab
from tests.support.source import nodes, syntax_tree

SOURCE = Path(relab.__file__).parent
PROJECT = SOURCE.parent.parent

CONTEXTS = frozenset(
    {
        "telemetry", "rca", "access", "knowledge", "flags", "load", "experiments", "incidents", "rollouts", "builds", "testbed",
    }
)  # fmt: skip
DOORS = frozenset(
    {
        "service",
        "models",
        "outcome_models",
        "log_models",
        "agent_models",
        "past_models",
        "overview_models",
        "judge_method",
    }
)
"""Modules that one context may import from another; the last six define values that models or services use."""
SUB_CONTEXT_DOORS = frozenset(
    {
        "builds.ingest.service",
        "builds.logs.service",
        "builds.promotion.service",
        "builds.suggestions.service",
        "builds.training.service",
        "experiments.proof.service",
        "incidents.notices.service",
        "rollouts.search.service",
        "telemetry.otlp_models",
        "telemetry.prices.models",
        "experiments.inspect_logs.service",
        "experiments.sets",
        "experiments.sandbox.kinds",
        "experiments.sandbox.process",
        "experiments.sandbox.protocol",
        "experiments.sandbox.stale_processes",
    }
)
"""Modules of inner packages that other contexts may import directly."""

EXCEPTIONS = {
    ("cli", "testbed.scoring.service"): "evaluations have a door of their own, which only `lab` uses",
    (
        "cli",
        "incidents.evaluation.figures",
    ): "what testbeds measure and what is made of it meet only here: incidents are blind",
    ("cli", "testbed.scenarios.service"): "the scenarios of a testbed have a door of their own, which only `lab` uses",
    (
        "cli",
        "incidents.capabilities",
    ): "a runbook is checked against what a responder can see and do, which knowledge may not know",
    ("rca", "telemetry.trial_runs"): "which runs are trials, whose version is a variant: one rule, pure",
    ("rca", "telemetry.outcome"): "an analysis and the list of runs agree on what a run recovered from: one rule, pure",
    (
        "builds",
        "experiments.config.sanitization",
    ): "a build works on a copy of its project, in the sandbox and the environment of a trial",
    (
        "builds",
        "experiments.errors",
    ): "a build works on a copy of its project, in the sandbox and the environment of a trial",
    (
        "builds",
        "experiments.workspace.snapshots",
    ): "a build works on a copy of its project, in the sandbox and the environment of a trial",
    (
        "builds",
        "experiments.workspace.kept_snapshots",
    ): "the copy of a project stays between its builds, and only its changes are copied",
    (
        "builds",
        "experiments.workspace.untrusted_trees",
    ): "a build works on a copy of its project, in the sandbox and the environment of a trial",
    (
        "cli",
        "builds.optimizer.policies.registry",
    ): "the help of commands lists the policies; the registry imports none of them",
    ("cli", "telemetry.ingest.reading"): "the command line turns files into runs before the service sees them",
}
"""Each allowed `(importer, module)` pair with its reason; pairs that are no longer needed must be removed."""


def modules() -> Iterator[Path]:
    yield from sorted(SOURCE.rglob("*.py"))


@functools.cache
def is_module(name: str) -> bool:
    path = SOURCE.joinpath(*name.split(".")[1:])
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Return the modules of relab that a file imports, wherever in the file."""
    found: list[str] = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("relab")]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "relab":
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if is_module(name) else node.module for name in inner]
    return tuple(found)


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the full name of each module that a file imports."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def owner(path: Path) -> str:
    """Return the context (or edge package, or root module) that a file belongs to."""
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def crossings() -> set[tuple[str, str]]:
    """Return `(importer, module of another context)` for all imports that cross into a context."""
    found = set()
    for path in modules():
        for name in imports(path):
            parts = name.split(".")[1:]
            if parts and parts[0] in CONTEXTS and parts[0] != owner(path):
                found.add((owner(path), ".".join(parts)))
    return found


def test_only_tests_import_test_modules() -> None:
    folders = ("bench", "demo", "evals", "examples", "rig")
    found = [
        f"{path.relative_to(PROJECT)}: {name}"
        for folder in folders
        for path in sorted((PROJECT / folder).rglob("*.py"))
        for name in imported_modules(path)
        if name.split(".")[0] in {"tests", "support", "contract"}
    ]

    assert found == []


def is_door(name: str) -> bool:
    return name in SUB_CONTEXT_DOORS or name.split(".")[1] in DOORS


def test_the_import_contracts_are_kept() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as run; run()",
            "--no-cache",
            "--no-logo",
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_contexts_import_only_services_and_models_of_each_other() -> None:
    # The composition root wires handlers and adapters, so it may import them.
    beside = {(by, name) for by, name in crossings() if not is_door(name) and by != "bootstrap"}

    assert beside - EXCEPTIONS.keys() == set()
    assert EXCEPTIONS.keys() - beside == set(), "an exception that nobody needs"


def test_composition_root_imports_only_services_models_handlers_and_adapters() -> None:
    names = {name.split(".")[1] for by, name in crossings() if by == "bootstrap" and name not in SUB_CONTEXT_DOORS}

    assert names <= {"service", "models", "handlers", "wording", "judge"}


def test_context_never_imports_tables_or_repositories_of_another_context() -> None:
    for path in modules():
        for name in imports(path):
            parts = name.split(".")[1:]
            if len(parts) == 2 and parts[1].endswith(("tables", "repository")):
                assert parts[0] == owner(path), f"{path} imports {name}"


ROOMS = {"rca": {"evidence", "detectors", "attribution", "ranking", "report"}}
"""Inner packages of each context whose names other code imports from the package and not from its modules."""


def test_inner_package_is_imported_only_by_its_top_level_name() -> None:
    beside = set()
    for path in modules():
        room = path.relative_to(SOURCE).parts[:2]
        for name in imports(path):
            context, inner, *rest = [*name.split(".")[1:], "", ""][:3]
            if inner in ROOMS.get(context, ()) and rest != [""] and room != (context, inner):
                beside.add((str(path.relative_to(SOURCE)), name))

    assert beside == set()


def test_package_init_files_only_describe_and_reexport() -> None:
    """An `__init__` has a docstring and re-exports; it holds no code."""
    allowed = ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign
    for path in SOURCE.rglob("__init__.py"):
        tree = syntax_tree(path)
        assert ast.get_docstring(tree), f"{path} says nothing about its package"
        assert all(isinstance(node, allowed) for node in tree.body[1:]), path


def test_nothing_unpacks_an_archive() -> None:
    """An archive can name paths outside of its folder, so modules that read archives are listed with their checks."""
    # The first module reads entries into memory, up to a limit. The second checks each path: `test_archives.py`. The
    # third checks the names, kinds and sizes of all entries before it reads one. The last only writes:
    # `test_experiment_publish.py`.
    readers = {
        "experiments/inspect_logs/archive.py",
        "experiments/workspace/archives.py",
        "experiments/proof/bundle_reading.py",
        "experiments/proof/bundling.py",
    }
    unpackers = {"zipfile", "tarfile", "lzma", "bz2", "zipimport"}
    found = []
    for path in (path for path in modules() if str(path.relative_to(SOURCE)) not in readers):
        for node in nodes(path):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [node.attr] if isinstance(node, ast.Attribute) else []
            if not unpackers.isdisjoint(name.partition(".")[0] for name in names) or "unpack_archive" in names:
                found.append(f"{path}:{getattr(node, 'lineno', 0)}")
    assert found == []
