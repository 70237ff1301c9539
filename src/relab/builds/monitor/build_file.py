"""The file `build.yaml` of a project: the command that builds it, and the effect of each knob (setting) on the command."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from relab.builds.errors import BuildConfigurationError, BuildFileInvalidError
from relab.builds.models import KNOBS, BuildConfiguration
from relab.core.ids import ExternalId
from relab.core.validation import FieldValueError, plain_message, problems_of
from relab.core.yaml_problems import yaml_error
from relab.core.yaml_source import YamlReader, nearest

BUILD_FILE: Final = "build.yaml"
ANY: Final = "any"
"""The key for all values of a knob that have no key of their own."""
_YAML: Final = YamlReader(
    BuildFileInvalidError, missing_remedy="Write one with the fields `name` and `command` (docs/builds.md)."
)


class BuildSandbox(StrEnum):
    """The kind of sandbox in which builds of a project run.

    `bwrap`: bubblewrap, which isolates builds. `local`: plain processes in their own copy of the project. `auto`:
    bubblewrap if it works on this machine, otherwise plain processes.
    """

    AUTO = "auto"
    BWRAP = "bwrap"
    LOCAL = "local"


class BuildNetwork(StrEnum):
    """The network access of builds in bubblewrap: `none` (no network) or `full` (the network of this machine)."""

    NONE = "none"
    FULL = "full"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


VariableName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^=\x00-\x1f\x7f]+$")]
"""The name of an environment variable; one with `=` would set another variable."""


class KnobChange(_Section):
    """The effect of one value of a knob (setting) on the build command.

    In both fields, `{value}` stands for the value of the knob, and `{cache}` for the path of the cache folder in the
    sandbox.

    Attributes:
        arguments: appended to the command, in the order of the knobs in `BuildConfiguration`.
        environment: environment variables of the command.
    """

    arguments: list[str] = []
    environment: dict[VariableName, str] = {}


def _knob_text(value: Any) -> Any:
    """Convert the texts `on` and `off` of switches (knobs with a boolean value) to True and False.

    `value` is `{knob: value}`, such as the section `defaults` of a build file; a knob is a setting of the build. Return
    a copy with the converted values; all other values are unchanged. If `value` is not a mapping, return it as it is.
    """
    if not isinstance(value, dict):
        return value
    switches = {name for name, field in BuildConfiguration.model_fields.items() if field.annotation is bool}
    named = {"on": True, "off": False}
    return {
        name: named.get(given, given) if name in switches and isinstance(given, str) else given
        for name, given in value.items()
    }


class BuildFile(_Section):
    """The content of `build.yaml`.

    Attributes:
        name: the name of the project.
        command: the program and its arguments; a path in the program's name is relative to the project.
        environment: environment variables of every build.
        sandbox: the kind of sandbox in which builds run.
        network: the network access in bubblewrap.
        ignore: patterns, as in .gitignore, of files that are not copied.
        max_log_mb: the largest log of a build, in MB; a build with a larger log is ended.
        max_written_mb: the most that a build may write, in MB; a build that writes more is ended. The copy of the
            project and a kept cache do not count.
        defaults: the configuration of a build if no other one is chosen.
        limits: the largest allowed values of `parallelism`, `memory_mb`, `time_limit_s` and `retries`. Without a limit,
            the largest allowed value is the one in `defaults`.
        knobs: `{knob: {value: change of the build command}}`; the key `any` applies to all values without a key of
            their own. These knobs have an effect even without an entry: `memory_mb`, `time_limit_s`, `retries`,
            `incremental` (keeps the workspace) and `cache` (keeps the cache folder).
    """

    name: ExternalId
    command: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1_000)]
    environment: dict[VariableName, str] = {}
    sandbox: Annotated[BuildSandbox, Field(strict=False)] = BuildSandbox.AUTO
    network: Annotated[BuildNetwork, Field(strict=False)] = BuildNetwork.NONE
    ignore: list[str] = []
    max_log_mb: Annotated[float, Field(gt=0, le=10_240)] = 128.0
    max_written_mb: Annotated[float, Field(gt=0, le=1_048_576)] = 4_096.0
    defaults: Annotated[BuildConfiguration, BeforeValidator(_knob_text)] = BuildConfiguration()
    limits: dict[str, float] = {}
    knobs: dict[str, dict[str, KnobChange]] = {}

    @field_validator("knobs")
    @classmethod
    def _check_knobs(cls, value: dict[str, dict[str, KnobChange]]) -> dict[str, dict[str, KnobChange]]:
        for name in value:
            if name not in KNOBS:
                raise ValueError(
                    f"{name!r} is not a knob{nearest(name, list(KNOBS))}; the knobs are {', '.join(KNOBS)}"
                )
        return value

    @field_validator("ignore")
    @classmethod
    def _check_ignore(cls, value: list[str]) -> list[str]:
        from pathspec import GitIgnoreSpec

        GitIgnoreSpec.from_lines(value)
        return value

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        for name, most in self.limits.items():
            if name not in LIMITED_KNOBS:
                message = f"{name!r} has no limit; only {', '.join(LIMITED_KNOBS)} have one"
                raise FieldValueError(("limits", name), message)
            try:
                BuildConfiguration.model_validate({name: type(getattr(self.defaults, name))(most)})
            except ValidationError as error:
                message = plain_message(error.errors()[0]["msg"])
                raise FieldValueError(("limits", name), f"{message[:1].lower()}{message[1:]}, not {most:g}") from error
            if most < getattr(self.defaults, name):
                message = f"{most:g} is less than the default {getattr(self.defaults, name):g}"
                raise FieldValueError(("limits", name), message)
        return self

    @property
    def test_selections(self) -> list[str]:
        """The names of the project's test selections (sets of tests to run).

        They are the possible values of the knob (setting of a build) `tests`.
        """
        return sorted({self.defaults.tests, *self.knobs.get("tests", {})} - {ANY})

    def largest(self, knob: str) -> float:
        """Return the largest value that the build file allows for a knob (setting of a build) with a numeric limit.

        This is the knob's limit in the file's section `limits`; without a limit, it is the knob's default value.
        `LIMITED_KNOBS` lists these knobs.
        """
        return float(self.limits.get(knob, getattr(self.defaults, knob)))

    def check(self, configuration: BuildConfiguration) -> None:
        """Check that a configuration is possible for this project.

        Raises:
            BuildConfigurationError: the test selection is unknown, or a value is above the project's limit.
        """
        problems = []
        if configuration.tests not in self.test_selections:
            problems.append(
                (
                    "tests",
                    f"there is no test selection {configuration.tests!r}; use {' or '.join(self.test_selections)}",
                )
            )
        for name in LIMITED_KNOBS:
            value, most = getattr(configuration, name), self.largest(name)
            if value > most:
                problems.append((name, f"{value:g} is more than {most:g}, the limit in {BUILD_FILE} (limits.{name})"))
        if problems:
            field, message = problems[0]
            raise BuildConfigurationError(f"{field}: {message}.", problems=tuple(problems))

    def command_of(self, configuration: BuildConfiguration, cache: str) -> tuple[list[str], dict[str, str]]:
        """Return `(command, environment variables)` of a build with this configuration.

        Args:
            configuration: the configuration of the build.
            cache: the path of the cache folder inside the sandbox.
        """
        command, environment = list(self.command), dict(self.environment)
        for name, value in configuration.values().items():
            changes = self.knobs.get(name, {})
            change = changes.get(value, changes.get(ANY, KnobChange()))
            command += [_filled(argument, value, cache) for argument in change.arguments]
            environment |= {key: _filled(text, value, cache) for key, text in change.environment.items()}
        return command, environment

    def differ(self, first: BuildConfiguration, second: BuildConfiguration) -> bool:
        """Return whether two configurations lead to different builds.

        Builds differ by command, environment variables, memory limit, time limit, and whether the workspace or the
        cache is kept. A kept cache makes a difference only if a knob's text contains `{cache}`. `retries` makes no
        difference to a single build.
        """
        changes = [change for values in self.knobs.values() for change in values.values()]
        texts = [text for change in changes for text in (*change.arguments, *change.environment.values())]
        uses_cache = any("{cache}" in text for text in texts)

        def effect(configuration: BuildConfiguration) -> tuple[object, ...]:
            limits = configuration.memory_mb, configuration.time_limit_s
            kept = configuration.incremental, uses_cache and configuration.cache
            return self.command_of(configuration, "{cache}"), limits, kept

        return effect(first) != effect(second)


LIMITED_KNOBS: Final = ("parallelism", "memory_mb", "time_limit_s", "retries")
"""The knobs whose largest value a build file may set."""


class BuildProject(BaseModel):
    """A project to build: its folder, and its build file."""

    model_config = ConfigDict(frozen=True)

    root: Path
    file: BuildFile


def read_project(folder: Path) -> BuildProject:
    """Read the `build.yaml` of the project in a folder, and return the project.

    Raises:
        BuildFileInvalidError: the `build.yaml` is unreadable or invalid; the error names file, line and field.
    """
    root = folder.absolute()
    source = _YAML.read(root / BUILD_FILE)
    if not isinstance(source.value, dict):
        raise BuildFileInvalidError(
            f"{source.path}: a build file must be a mapping of fields, not {type(source.value).__name__}."
        )
    try:
        return BuildProject(root=root, file=BuildFile.model_validate(source.value))
    except ValidationError as error:
        raise yaml_error(error, source, BuildFile, BuildFileInvalidError) from error


def override(configuration: BuildConfiguration, values: Mapping[str, str]) -> BuildConfiguration:
    """Return a copy of a configuration in which some knobs have other values.

    Args:
        configuration: the configuration to copy.
        values: `{knob: value as text}`; the values of switches are `on` or `off`.

    Raises:
        BuildConfigurationError: a knob is unknown, or a value is invalid.
    """
    problems = [
        (name, f"is not a knob{nearest(name, list(KNOBS))}; the knobs are {', '.join(KNOBS)}")
        for name in values
        if name not in KNOBS
    ]
    if problems:
        raise BuildConfigurationError(f"{problems[0][0]!r} {problems[0][1]}.", problems=tuple(problems))
    try:
        return BuildConfiguration.model_validate(
            {**configuration.model_dump(), **_knob_text(dict(values))}, strict=False
        )
    except ValidationError as error:
        found = problems_of(error, root="configuration")
        raise BuildConfigurationError(f"{found[0][0]}: {found[0][1]}.", problems=found) from error


def _filled(text: str, value: str, cache: str) -> str:
    return text.replace("{value}", value).replace("{cache}", cache)
