"""Define and validate the content of scenario files, which have chaostoolkit's experiment format.

Features that relab does not support are rejected, with three exceptions that are accepted and ignored: a strategy for
rollbacks, the `secrets` of an activity, and `extensions` of other programs.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    PlainValidator,
    StrictBool,
    Tag,
    field_validator,
    model_validator,
)

from relab.core.json import is_number
from relab.testbed.scenarios.jsonpath import parse_path

VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
MAX_PAUSE_S: Final = 86_400.0


def _seconds(given: Any) -> float | str:
    if isinstance(given, str) and VARIABLE.fullmatch(given):
        return given
    if is_number(given) and 0 <= given <= MAX_PAUSE_S:
        return given
    raise ValueError(f"must be 0 to {MAX_PAUSE_S:.0f} seconds, or ${{name}} of a variable")


Seconds = Annotated[float | int | str, PlainValidator(_seconds)]
"""A number of seconds, or `${name}` of a variable that holds one."""


class _Part(BaseModel):
    """A part of a scenario file. Unknown fields are rejected, so that a misspelt field name is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _Controlled(_Part):
    controls: list[JsonValue] = []

    @field_validator("controls")
    @classmethod
    def _reject_items(cls, given: list[JsonValue]) -> list[JsonValue]:
        if given:
            raise ValueError("controls are Python modules of chaostoolkit's own process; run the file with `chaos run`")
        return given


class HttpProvider(_Part):
    """An HTTP request that performs an activity (an action or probe) of an experiment.

    In `url`, `headers` and `arguments`, `${name}` stands for the value of the scenario's variable or secret `name`.

    Attributes:
        arguments: the query of a GET request, or the body of another request. A body is sent as JSON if the header
            Content-Type is `application/json`. Otherwise, a mapping is sent as a form, and a text unchanged.
        timeout: time limit in seconds; None for 10 s. In a list, the first value is the limit for connecting, and the
            last value the limit for the rest of the request.
        verify_tls: whether the server's certificate is checked.
        max_retries: number of attempts to connect after the first.
        secrets: names of groups of secret variables, for chaostoolkit only; relab ignores them.
    """

    type: Literal["http"]
    url: str = Field(min_length=1)
    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    headers: dict[str, str | int | float] = {}
    arguments: JsonValue = None
    timeout: Seconds | list[Seconds] | None = None
    verify_tls: bool = True
    max_retries: int = Field(default=0, ge=0, le=100)
    secrets: list[str] = []

    @field_validator("method", mode="before")
    @classmethod
    def _upper(cls, given: Any) -> Any:
        return given.upper() if isinstance(given, str) else given

    @field_validator("timeout")
    @classmethod
    def _reject_empty_list(cls, given: Any) -> Any:
        if given == []:
            raise ValueError("needs at least 1 limit")
        return given


class ProcessProvider(_Part):
    """A command on this machine that performs an activity (action or probe): the program `path` with `arguments`.

    The command runs only if the caller allows scenarios to run code.

    Attributes:
        timeout: time limit in seconds; None for 10 s.
        secrets: names of groups of secret variables, for chaostoolkit only; relab ignores them.
    """

    type: Literal["process"]
    path: str = Field(min_length=1)
    arguments: str | list[JsonValue] | dict[str, JsonValue] | None = None
    timeout: Seconds | None = None
    secrets: list[str] = []


class PythonProvider(_Part):
    """A Python function that performs an activity (action or probe).

    It is the function `func` of `module`, called with `arguments` by name.

    The function is called only if the caller allows scenarios to run code.

    Attributes:
        secrets: names of groups of secret variables, for chaostoolkit only; relab ignores them.
    """

    type: Literal["python"]
    module: str = Field(min_length=1)
    func: str = Field(min_length=1)
    arguments: dict[str, JsonValue] = {}
    secrets: list[str] = []


def _field(name: str) -> Any:
    """Return a function by which Pydantic chooses the class of a dict or object: it reads the field `name`.

    The function returns the content of this field as a tag in angle brackets, such as `<http>`. Pydantic adds the tag to
    the location of an error. The brackets distinguish a tag from the field names in this location.
    """
    # pydantic chooses the class by this text. Error messages recognise it in a location by the brackets.
    return lambda value: f"<{value.get(name)}>" if isinstance(value, dict) else f"<{getattr(value, name, None)}>"


Provider = Annotated[
    Annotated[HttpProvider, Tag("<http>")]
    | Annotated[ProcessProvider, Tag("<process>")]
    | Annotated[PythonProvider, Tag("<python>")],
    Discriminator(
        _field("type"), custom_error_type="provider", custom_error_message="type must be http, process or python"
    ),
]


class RegexTolerance(_Part):
    """A condition for the output of a probe: the regular expression `pattern` is found in the output.

    Attributes:
        target: the field of the output in which to search; None for the whole output.
    """

    type: Literal["regex"]
    pattern: str
    target: str | None = None

    @field_validator("pattern")
    @classmethod
    def _readable(cls, given: str) -> str:
        try:
            re.compile(given)
        except re.error as error:
            raise ValueError(f"{given!r} is not a regular expression: {error}") from error
        return given


class JsonPathTolerance(_Part):
    """A condition for the output of a probe: the JSON path `path` finds the expected values in the output.

    Attributes:
        target: the field of the output in which to search; None for the whole output.
        count: the required number of found values; None for at least one. It is ignored if `expect` is given.
        expect: the list of values that the path must find, or the only one. If the field is absent, any values are
            accepted; if it is null, the path must find exactly one null.
    """

    type: Literal["jsonpath"]
    path: str
    target: str | None = None
    count: int | None = Field(default=None, ge=0)
    expect: JsonValue = None

    @field_validator("path")
    @classmethod
    def _readable(cls, given: str) -> str:
        if not VARIABLE.search(given):
            parse_path(given)
        return given


class RangeTolerance(_Part):
    """A condition for a probe's output: a number in `range`, both ends included.

    Attributes:
        target: the field of the output with the number; None if the output is the number.
    """

    type: Literal["range"]
    range: tuple[float, float]
    target: str | None = None

    @field_validator("range")
    @classmethod
    def _comparable(cls, given: tuple[float, float]) -> tuple[float, float]:
        if any(map(math.isnan, given)):
            raise ValueError("must be two numbers, and not NaN")
        return given


def _tolerance_tag(value: Any) -> str | None:
    if isinstance(value, dict | BaseModel):
        return str(_field("type")(value))
    return "<value>" if isinstance(value, bool | int | str | list | tuple) else None


Tolerance = Annotated[
    Annotated[StrictBool | int | str | list[JsonValue], Tag("<value>")]
    | Annotated[RegexTolerance, Tag("<regex>")]
    | Annotated[JsonPathTolerance, Tag("<jsonpath>")]
    | Annotated[RangeTolerance, Tag("<range>")],
    Discriminator(
        _tolerance_tag,
        custom_error_type="tolerance",
        custom_error_message="must be a value, a list, or of type regex, jsonpath or range",
    ),
]


class Pauses(_Part):
    """Pauses before and after an activity, in seconds."""

    before: Seconds = 0.0
    after: Seconds = 0.0


class Activity(_Controlled):
    """One action (a change) or probe (a measurement).

    Attributes:
        provider: the request, command or Python function to perform.
        tolerance: for a probe in the steady-state hypothesis, the condition that its output must meet.
        pauses: time to wait before and after the activity.
        background: whether this activity runs in the background, so that the next step of the method does not wait for
            its end.
    """

    type: Literal["action", "probe"]
    name: str = Field(min_length=1, max_length=200)
    provider: Provider
    tolerance: Tolerance | None = None
    pauses: Pauses = Pauses()
    background: bool = False


class Reference(_Part):
    """A step that names an activity (an action or probe) of the scenario, and so performs this activity again.

    Attributes:
        ref: the name of the activity.
    """

    ref: str = Field(min_length=1)


Step = Annotated[
    Annotated[Activity, Tag("<activity>")] | Annotated[Reference, Tag("<reference>")],
    Discriminator(lambda value: "<reference>" if "ref" in (value if isinstance(value, dict) else {}) else "<activity>"),
]


class SteadyState(_Controlled):
    """The steady-state hypothesis: probes with conditions, which all hold as long as the service is healthy."""

    title: str = Field(min_length=1)
    probes: list[Step] = []


class _Strategy(_Part):
    strategy: str = "default"


class _HypothesisStrategy(_Part):
    strategy: Literal["default", "before-method-only", "after-method-only", "during-method-only", "continuously"] = (
        "default"
    )


class Runtime(_Part):
    """When a run checks the steady-state hypothesis: before, during or after the steps of the method.

    A scenario file may also set chaostoolkit's strategy for rollbacks. relab ignores it: rollbacks always run.
    """

    rollbacks: _Strategy = _Strategy()
    hypothesis: _HypothesisStrategy = _HypothesisStrategy()


class FromEnvironment(_Part):
    """A scenario's variable whose value is read from an environment variable.

    Attributes:
        key: name of the environment variable.
        default: the value if the environment variable is not set. Without a default, an unset variable is an error.
        env_var_type: the type to which the variable's text is converted; None to keep the text.
    """

    type: Literal["env"]
    key: str = Field(min_length=1)
    default: JsonValue = None
    env_var_type: Literal["str", "string", "int", "integer", "float", "number", "bool", "json"] | None = None


class Experiment(_Controlled):
    """The content of a scenario file, in chaostoolkit's experiment format.

    Attributes:
        configuration: the scenario's variables, by name. Each is a value, or a JSON object that names the environment
            variable from which the value is read (`FromEnvironment`).
        secrets: groups of variables with secret values, by the name of the group.
        hypothesis: the steady-state hypothesis (the checks whether the service works); None to check nothing.
        method: the steps, performed in order.
        rollbacks: the steps at the end of every run.
    """

    title: str = Field(min_length=1)
    description: str = Field(min_length=1)
    version: str = "1.0.0"
    tags: list[Annotated[str, Field(min_length=1)]] = []
    contributions: dict[str, JsonValue] = {}
    extensions: list[dict[str, JsonValue]] = []
    configuration: dict[str, JsonValue] = {}
    secrets: dict[str, JsonValue] = {}
    runtime: Runtime = Runtime()
    hypothesis: SteadyState | None = Field(default=None, alias="steady-state-hypothesis")
    method: list[Step]
    rollbacks: list[Step] = []

    @model_validator(mode="after")
    def _whole(self) -> Self:
        probes = self.hypothesis.probes if self.hypothesis else []
        named = {step.name for step in (*probes, *self.method) if isinstance(step, Activity)}
        for step in (*probes, *self.method, *self.rollbacks):
            if isinstance(step, Reference) and step.ref not in named:
                raise ValueError(f"ref names {step.ref!r}, which is not an activity of the method or the hypothesis")
        for probe in probes:
            if isinstance(probe, Activity) and "tolerance" not in probe.model_fields_set:
                raise ValueError(f"the probe {probe.name!r} of the hypothesis has no tolerance")
        if any("name" not in extension for extension in self.extensions):
            raise ValueError("every extension has a name")
        return self

    def activity(self, step: Activity | Reference) -> Activity:
        """Return the activity (action or probe) of a step: the step itself, or the one that a `Reference` names."""
        if isinstance(step, Activity):
            return step
        probes = self.hypothesis.probes if self.hypothesis else []
        # If two activities have the same name, the one of the hypothesis is used, as in chaostoolkit.
        found = {each.name: each for each in (*self.method, *probes) if isinstance(each, Activity)}
        return found[step.ref]

    def activities(self) -> list[Activity]:
        """Return all activities (actions and probes) that the three parts of a scenario define.

        The parts are the steady-state hypothesis (checks), the method (steps) and the rollbacks (last steps). Steps
        that only repeat an activity by its name (`Reference`) are left out.
        """
        probes = self.hypothesis.probes if self.hypothesis else []
        return [step for step in (*probes, *self.method, *self.rollbacks) if isinstance(step, Activity)]
