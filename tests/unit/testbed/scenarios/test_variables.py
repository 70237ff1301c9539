"""Variables `${name}` of scenarios: configuration, environment, secrets, overrides, and pauses."""

from __future__ import annotations

from typing import Any

import pytest

from relab.testbed.scenarios.errors import ScenarioError
from relab.testbed.scenarios.models import Experiment
from relab.testbed.scenarios.variables import Variables, load_variables, read_overrides


def experiment(**parts: Any) -> Experiment:
    return Experiment.model_validate({"title": "t", "description": "d", "method": [], **parts})


def test_text_that_is_one_variable_keeps_its_type() -> None:
    variables = Variables({"port": 80, "host": "here"})

    assert variables.fill("${port}") == 80
    assert variables.fill("http://${host}:${port}") == "http://here:80"
    assert variables.fill({"a": ["${port}", {"b": "$.state $5 ${absent}"}], "c": 7}) == {
        "a": [80, {"b": "$.state $5 ${absent}"}],
        "c": 7,
    }


def test_given_value_precedes_the_environment_and_the_environment_the_default() -> None:
    configuration = {
        "url": {"type": "env", "key": "URL", "default": "http://default"},
        "seconds": {"type": "env", "key": "SECONDS", "default": 20, "env_var_type": "float"},
        "flag": {"type": "env", "key": "FLAG", "default": "no", "env_var_type": "bool"},
        "plain": {"a": 1},
    }
    found = load_variables(
        experiment(configuration=configuration, secrets={"door": {"key": {"type": "env", "key": "KEY"}}}),
        {"SECONDS": "2.5", "KEY": "hidden", "URL": "http://environment"},
        {"url": "http://given", "unknown": "is passed over"},
        {"plain": 3},
    )

    assert found.values == {"url": "http://given", "seconds": 2.5, "flag": False, "plain": 3, "key": "hidden"}


@pytest.mark.parametrize(
    ("parts", "environment", "overrides", "problem"),
    [
        ({"configuration": {"a": {"type": "env", "key": "A"}}}, {}, {}, ("configuration.a", "no A, and there is no default")),
        ({"configuration": {"a": {"type": "env", "key": "A", "env_var_type": "int"}}}, {"A": "x"}, {}, ("configuration.a", "not of type int")),
        ({"configuration": {"a": {"type": "env", "key": "A", "env_var_type": "date"}}}, {}, {}, ("configuration.a.env_var_type", "'str'")),
        ({"configuration": {"a": {"type": "probe"}}}, {}, {}, ("configuration.a", "only env")),
        ({"secrets": {"a": {"type": "env", "key": "A"}}}, {"A": "x"}, {}, ("secrets.a", "a group")),
        ({"secrets": {"g": {"a": {"type": "vault", "key": "A"}}}}, {}, {}, ("secrets.g.a", "only env")),
        ({"configuration": {"a": 1}}, {}, {"b": 2}, ("--var b", "no such variable; it has: a")),
        ({"method": [{"type": "probe", "name": "look", "provider": {"type": "http", "url": "${b}/x"}}]}, {}, {},
         ("look", "${b} is neither in configuration nor in secrets")),
    ],
)  # fmt: skip
def test_unresolved_variable_is_named(
    parts: dict[str, Any], environment: dict[str, str], overrides: dict[str, Any], problem: tuple[str, str]
) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_variables(experiment(**parts), environment, {}, overrides)

    field, message = caught.value.problems[0]
    assert field == problem[0]
    assert problem[1] in message
    assert all(value != "x" for value in environment.values() if value in message.split())


def test_overrides_have_the_syntax_of_chaostoolkit() -> None:
    read = read_overrides(["a=1", "b:int=2", "c:float=0.5", "d:bool=no", 'e:json={"x": [1]}', "f=g=h"])

    assert read == {"a": "1", "b": 2, "c": 0.5, "d": False, "e": {"x": [1]}, "f": "g=h"}


@pytest.mark.parametrize("line", ["a", "=1", "a:date=1", "a:int=hidden"])
def test_invalid_override_is_rejected_without_repeating_its_value(line: str) -> None:
    with pytest.raises(ScenarioError, match="--var") as caught:
        read_overrides([line])

    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("value", ["soon", -1, None, [3]])
def test_pause_that_is_not_a_number_of_seconds_is_rejected(value: Any) -> None:
    with pytest.raises(ScenarioError, match=r"pauses\.after: "):
        Variables({"wait": value}).seconds("${wait}", "pauses.after")
