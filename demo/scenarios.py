"""The scenarios of the tour (tasks for agents that fail), and the function that runs and records them.

A scenario defines the tasks, the prompts and the API key. It does not define how a run ends: that depends on the tool
server and the agent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import httpx

from demo.agent import Agent, AgentError, Task
from demo.prompt import PROMPT_V1, PROMPT_V2, Prompt
from demo.recorder import OutsideRecorder, Recorder, RunJson
from demo.shop import CUSTOMERS, ORDERS, STANDARD_KEY, TRIAL_KEY
from demo.tools import DEADLINE_S, Toolbox, open_client


@dataclass(frozen=True)
class Trial:
    """One run of an agent: a task, and the prompt that the agent follows."""

    task: Task
    prompt: Prompt = PROMPT_V1


@dataclass(frozen=True)
class Scenario:
    """Trials of one agent; the run of the last trial is analysed.

    Attributes:
        key: the short name of the scenario.
        title: a sentence that describes it.
        agent_name: the name of the agent.
        trials: the trials, in order.
        api_key: the key that the agent sends to the tool server.
        recorder: the class that records the runs.
    """

    key: str
    title: str
    agent_name: str
    trials: tuple[Trial, ...]
    api_key: str = STANDARD_KEY
    recorder: type[Recorder] = Recorder


PARCELS = ("P-71", "P-72", "P-73", "P-74")

POLICY_QUESTIONS = (
    ("How long does a refund take?", "14 days"),
    ("Which countries do you ship to?", "European Union"),
    ("How do I change my password?", "account page"),
)


def _one(topic: str, question: str, **facts: str | tuple[str, ...]) -> tuple[Trial, ...]:
    return (Trial(Task(f"{topic.lower().replace(' ', '-')}-1", topic, question, facts)),)


def _order_desk_tasks() -> list[Task]:
    """Return twelve tasks: three questions about policies, and nine about an order."""
    policy = [
        Task(f"policy-{number}", "Policy", question, must_mention=(answer,))
        for number, (question, answer) in enumerate(POLICY_QUESTIONS, start=1)
    ]
    orders = [
        Task(
            f"order-{number}",
            "Order status",
            f"Where is my order {number}?",
            {"order_number": number, "email": email},
            must_mention=(state,),
        )
        for email, (number, (_, state)) in zip(CUSTOMERS, ORDERS.items(), strict=True)
    ]
    return policy + orders


SCENARIOS = (
    Scenario(
        "invoice",
        "An agent asks for an invoice; its tool description is older than the API",
        "invoice-desk",
        _one("Invoice", "Please send me the invoice for order 5003.", order_number="5003"),
    ),
    Scenario(
        "quota",
        "An agent tracks four parcels with the API key of the trial plan",
        "parcel-desk",
        _one("Parcels", "Where are my four parcels?", parcels=PARCELS),
        api_key=TRIAL_KEY,
    ),
    Scenario(
        "refund",
        "An agent pays a refund with an API key that may only read",
        "refund-desk",
        _one("Refund", "I sent order 5003 back, please refund it.", order_number="5003"),
    ),
    Scenario(
        "stock",
        "An agent asks a stock system that hangs",
        "stock-desk",
        _one("Stock", "Do you have the blue mug?", sku="MUG-BLUE"),
    ),
    Scenario(
        "label",
        "An agent wants a return label, and is told each time to choose a carrier first",
        "returns-desk",
        _one("Return label", "I need a return label for order 5008.", order_number="5008"),
    ),
    Scenario(
        "help",
        "An agent searches the help centre for something that it does not cover",
        "help-desk",
        _one("Policy", "Can espresso machines be descaled with vinegar?"),
    ),
    Scenario(
        "prompt",
        "A new prompt skips the customer look-up: 12 questions under the old one, 12 under the new",
        "order-desk",
        tuple(Trial(task, prompt) for prompt in (PROMPT_V1, PROMPT_V2) for task in _order_desk_tasks()),
    ),
    Scenario(
        "points",
        "An agent credits points; the tool breaks in a way that has no category",
        "points-desk",
        _one("Points", "Please credit my points.", email="customer4@example.com"),
    ),
    Scenario(
        "outside",
        "The same request, recorded by a gateway that sees nothing of the agent",
        "legacy-desk",
        _one("Points", "Please credit my points.", email="customer4@example.com"),
        recorder=OutsideRecorder,
    ),
    Scenario(
        "patience",
        "The four parcels again on the standard plan, whose limit soon passes",
        "parcel-desk",
        _one("Parcels", "Where are my four parcels?", parcels=PARCELS),
    ),
)


def perform(
    scenario: Scenario,
    tool_server_url: str,
    *,
    wait: Callable[[float], None] = time.sleep,
    deadline_s: float = DEADLINE_S,
) -> list[RunJson]:
    """Run every trial of a scenario and return the recorded runs; the last one is the run to analyse.

    Run ids are new on every call.

    Args:
        scenario: the scenario.
        tool_server_url: the base URL of the tool server.
        wait: waits for the given seconds.
        deadline_s: the time limit of a tool call, in seconds.
    """
    with open_client(tool_server_url, deadline_s) as client:
        return [_perform(scenario, trial, client, wait) for trial in scenario.trials]


def _perform(scenario: Scenario, trial: Trial, client: httpx.Client, wait: Callable[[float], None]) -> RunJson:
    agent_run_id = f"{scenario.key}-{uuid4().hex[:12]}"
    recorder = scenario.recorder(
        agent_run_id=agent_run_id,
        agent_name=scenario.agent_name,
        agent_version=trial.prompt.version,
        prompt_hash=trial.prompt.hash,
        task_id=trial.task.task_id,
    )
    toolbox = Toolbox(client, agent_run_id=agent_run_id, api_key=scenario.api_key)
    return recorder.finish(_attempt(Agent(trial.prompt, toolbox, recorder, wait=wait), trial.task))


def _attempt(agent: Agent, task: Task) -> Exception | None:
    """Run an agent; return the error that stopped it, or None."""
    try:
        agent.run(task)
    except (AgentError, httpx.HTTPError) as error:
        return error
    return None
