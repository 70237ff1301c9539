"""Build files: effects of knobs, and errors that name file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

import relab
from relab.builds.errors import BuildConfigurationError, BuildFileInvalidError
from relab.builds.models import (
    ACTION_IDS,
    SIMULATED_ACTION_IDS,
    SIMULATED_FAULTS,
    BuildConfiguration,
    SimulationRequest,
)
from relab.builds.monitor.build_file import override, read_project
from relab.builds.monitor.simulator import shipped_simulator
from relab.builds.optimizer.catalogue import CATALOGUE

ROOT = Path(relab.__file__).parents[2]
FILE = """\
name: shop
command: [make]
environment: {MODE: release}
defaults: {cache: on, memory_mb: 256}
limits: {parallelism: 8, memory_mb: 1024}
knobs:
  parallelism: {any: {arguments: ["-j{value}"]}}
  cache:
    on: {environment: {CCACHE_DIR: "{cache}/objects"}}
    off: {arguments: [no-cache]}
  tests:
    all: {arguments: [check]}
    fast: {arguments: [check-fast], environment: {MODE: debug}}
"""


def read(folder: Path, text: str) -> BuildFileInvalidError:
    (folder / "build.yaml").write_text(text)
    with pytest.raises(BuildFileInvalidError) as raised:
        read_project(folder)
    return raised.value


def test_knobs_change_arguments_and_environment(tmp_path: Path) -> None:
    (tmp_path / "build.yaml").write_text(FILE)
    file = read_project(tmp_path).file

    command, environment = file.command_of(override(file.defaults, {"parallelism": "4", "tests": "fast"}), "/state")

    assert command == ["make", "-j4", "check-fast"]
    assert environment == {"MODE": "debug", "CCACHE_DIR": "/state/objects"}


def test_switch_is_written_as_on_and_off(tmp_path: Path) -> None:
    (tmp_path / "build.yaml").write_text(FILE)
    file = read_project(tmp_path).file

    command, environment = file.command_of(override(file.defaults, {"cache": "off"}), "/state")

    assert file.defaults.cache
    assert command == ["make", "no-cache", "-j1", "check"]
    assert "CCACHE_DIR" not in environment


def test_mistake_names_file_line_and_field(tmp_path: Path) -> None:
    error = read(tmp_path, "name: shop\ncommand: [make]\nnetwrk: none\n")

    assert "build.yaml:3: netwrk" in str(error)
    assert "did you mean 'network'" in str(error)


def test_unknown_knob_is_named(tmp_path: Path) -> None:
    assert "did you mean 'parallelism'" in str(read(tmp_path, FILE.replace("  parallelism:", "  paralelism:")))


@pytest.mark.parametrize("name", ['"A=B"', '""', '"A\\tB"'])
def test_impossible_name_of_an_environment_variable_is_rejected(tmp_path: Path, name: str) -> None:
    error = read(tmp_path, FILE.replace("{MODE: release}", f"{{{name}: x}}"))

    assert "build.yaml:3: environment" in str(error)


def test_limit_below_the_default_is_rejected(tmp_path: Path) -> None:
    assert "limits.memory_mb" in str(read(tmp_path, FILE.replace("memory_mb: 1024", "memory_mb: 128")))


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("memory_mb: 128", "limits.memory_mb: 128 is less than the default 512"),
        ("parallelism: 5000", "limits.parallelism: input should be less than or equal to 1024, not 5000"),
        ("input: 5", "limits.input: 'input' has no limit; only parallelism, memory_mb, time_limit_s, retries have one"),
    ],
)
def test_wrong_limit_is_reported_at_its_own_line(tmp_path: Path, limit: str, message: str) -> None:
    text = f"name: p\ncommand: [make]\ndefaults:\n  memory_mb: 512\nlimits:\n  retries: 2\n  {limit}\n"

    assert f"build.yaml:7: {message}" in str(read(tmp_path, text))


def test_missing_file_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(BuildFileInvalidError, match="`name` and `command`"):
        read_project(tmp_path)


@pytest.mark.parametrize(
    ("knob", "value", "message"),
    [
        ("memory_mb", "2048", "more than 1024"),
        ("tests", "slow", "'slow'; use all or fast"),
        ("retries", "1", "more than 0"),
    ],
)
def test_configuration_that_the_project_does_not_allow_is_rejected(
    tmp_path: Path, knob: str, value: str, message: str
) -> None:
    (tmp_path / "build.yaml").write_text(FILE)
    file = read_project(tmp_path).file

    with pytest.raises(BuildConfigurationError, match=message):
        file.check(override(file.defaults, {knob: value}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cash": "on"}, "did you mean 'cache'"),
        ({"parallelism": "many"}, "parallelism: "),
        ({"retries": "99"}, "retries"),
    ],
)
def test_wrong_knob_names_the_field(values: dict[str, str], message: str) -> None:
    with pytest.raises(BuildConfigurationError, match=message):
        override(BuildConfiguration(), values)


def test_limit_outside_the_range_of_its_knob_is_rejected(tmp_path: Path) -> None:
    error = read(tmp_path, FILE.replace("parallelism: 8", "time_limit_s: 172800"))

    assert "limits.time_limit_s" in str(error)
    assert "86400" in str(error)


def test_example_project_has_a_build_file() -> None:
    file = read_project(ROOT / "examples" / "build").file

    assert file.name == "example"
    assert file.test_selections == ["all", "fast"]


def test_action_and_fault_ids_of_requests_match_catalogue_and_simulator() -> None:
    assert tuple(CATALOGUE) == ACTION_IDS
    simulator = shipped_simulator()
    assert tuple(simulator.faults) == SIMULATED_FAULTS
    for fault in simulator.faults:
        assert tuple(simulator.actions(fault)) == SIMULATED_ACTION_IDS


def test_descriptions_of_the_simulator_name_the_actions_without_effect() -> None:
    others = " and ".join(str(action_id) for action_id in ACTION_IDS if action_id not in SIMULATED_ACTION_IDS)

    assert f"Actions {others} have no effect" in " ".join((SimulationRequest.__doc__ or "").split())
    assert f"Actions {others} have no effect" in (ROOT / "docs" / "builds.md").read_text()


def test_configurations_differ_only_if_the_build_file_or_a_limit_makes_a_difference(tmp_path: Path) -> None:
    (tmp_path / "build.yaml").write_text('name: p\ncommand: [make]\nknobs: {parallelism: {"2": {arguments: [-j2]}}}\n')
    file, before = read_project(tmp_path).file, BuildConfiguration()
    changes: list[dict[str, object]] = [
        {"cache": True},
        {"tests": "fast"},
        {"parallelism": 4},
        {"retries": 3},
        {"parallelism": 2},
        {"memory_mb": 4_096},
        {"time_limit_s": 1.0},
        {"incremental": True},
    ]

    different = [change for change in changes if file.differ(before, before.model_copy(update=change))]

    assert different == changes[4:]


def test_kept_cache_makes_a_difference_where_any_knob_uses_its_folder(tmp_path: Path) -> None:
    text = 'name: p\ncommand: [make]\nknobs: {tests: {all: {environment: {CCACHE_DIR: "{cache}"}}}}\n'
    (tmp_path / "build.yaml").write_text(text)

    assert read_project(tmp_path).file.differ(BuildConfiguration(), BuildConfiguration(cache=True))
