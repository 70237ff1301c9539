"""Write two logs with Inspect: `write_logs.py FOLDER`.

A scripted agent with a tool answers three samples in two epochs, the model `right` correctly, `wrong` incorrectly.
One tool call is rejected, and one makes its sample fail. There are three scorers: a letter, a number, and two values.
"""

import itertools
import sys

from inspect_ai import Task, eval  # noqa: A004 Inspect's name
from inspect_ai.agent import react
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, includes, mean, scorer
from inspect_ai.tool import ToolError, tool

SAMPLES = [
    Sample(id="one/plus", input="1 + 1", target="2"),
    Sample(id=2, input="13 + 1", target="14", metadata={"hard": True}),
    Sample(id="boom", input="99 + 1", target="100"),
]


@tool
def add():
    async def execute(x: int, y: int):
        """Add two numbers.

        Args:
            x: The first.
            y: The second.
        """
        if x == 13:
            raise ToolError("13 is refused")
        if x == 99:
            raise RuntimeError("the tool crashed at 99")
        return str(x + y)

    return execute


@scorer(metrics=[mean()])
def length():
    async def score(state, target):
        return Score(value=len(state.output.completion), answer=state.output.completion)

    return score


@scorer(metrics={"a": [mean()], "b": [mean()]})
def parts():
    async def score(state, target):
        return Score(value={"a": 1, "b": 0.5})

    return score


def call(name, **arguments):
    output = ModelOutput.for_tool_call("mockllm/model", name, arguments)
    output.usage = ModelUsage(input_tokens=10, output_tokens=5, total_tokens=15)
    return output


def answers(right):
    """Return the answers of the model in the order of the samples, which run one after the other."""
    one = [call("add", x=1, y=1), call("submit", answer="2" if right else "7")]
    refused = [call("add", x=13, y=1), call("submit", answer="14" if right else "7")]
    return itertools.cycle([*one, *refused, call("add", x=99, y=1)])


for name, right in (("right", True), ("wrong", False)):
    agent = react(tools=[add()])
    task = Task(name="sums", dataset=SAMPLES, solver=agent, scorer=[includes(), length(), parts()], epochs=2)
    model = get_model("mockllm/" + name, custom_outputs=answers(right))
    eval(task, model=model, log_dir=sys.argv[1], display="none", fail_on_error=False, max_samples=1)
