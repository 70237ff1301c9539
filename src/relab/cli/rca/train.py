"""`lab rca train`: train models that rank the steps of a failed run, with the labels that people gave to runs."""

from __future__ import annotations

from typing import Annotated

import typer

from relab.cli.context import open_services
from relab.cli.output import EXIT_FAILED, JsonOption, plain, print_json, print_table


def train(
    agent: Annotated[
        str | None, typer.Option(help="Only for this agent; by default for each with enough labels.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Delete the model of --agent.")] = False,
    as_json: JsonOption = False,
) -> None:
    """For each agent, train a model that ranks the steps of a failed run: which step probably went wrong first.

    The models learn from your labels (`lab rca label`). New analyses use the models. Older runs must be analysed again
    with --force.
    """
    if remove and agent is None:
        raise typer.BadParameter("--remove needs --agent.")
    with open_services() as services:
        ranking = services.rca.ranking
        if remove:
            assert agent is not None
            removed = ranking.remove(agent)
            if as_json:
                print_json("rca train", agent_name=agent, removed=removed)
            else:
                state = "is deleted" if removed else "does not exist"
                print(f"The model of {plain(agent)} {state}.")
            if not removed:
                raise typer.Exit(EXIT_FAILED)
            return
        outcomes = ranking.train(agent)
    if as_json:
        print_json("rca train", agents=[outcome.model_dump(mode="json") for outcome in outcomes])
        return
    rows = (
        (
            outcome.agent_name,
            outcome.labels,
            f"{outcome.right} of {outcome.held_out}" if outcome.trained else "too few labels",
        )
        for outcome in outcomes
    )
    print_table("Ranking models", ("agent", "labelled runs", "right step in held-out runs"), rows)
