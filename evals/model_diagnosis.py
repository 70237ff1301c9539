"""Compare diagnoses of the same incidents by the rules, by a language model alone, and by the rules with the model.

python -m evals.model_diagnosis --home HOME [--home HOME …] --model NAME [--base-url URL] [--provider openai|anthropic]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr
from rich.console import Console
from rich.table import Table

from relab.core.errors import RelabError
from relab.core.logging import configure_logging
from relab.incidents.diagnosis.candidates import UNKNOWN, Candidate
from relab.incidents.diagnosis.investigation import Investigator
from relab.incidents.diagnosis.model_answers import ModelAnswer
from relab.incidents.diagnosis.model_investigation import InvestigationInput, ModelInvestigator
from relab.incidents.diagnosis.settings import AskWhen, InvestigationSettings, ModelSettings
from relab.incidents.models import Snapshot
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.probes.models import ProbeEvidence, ProbeResult
from relab.knowledge.library import load_library
from relab.knowledge.models import FactValue, PastIncident, Runbook
from relab.knowledge.service import KnowledgeService
from relab.llm import (
    DEFAULT_PROVIDER,
    PROVIDERS,
    LangChainGateway,
    LlmConfig,
    LlmGateway,
    MeteredGateway,
    Prompt,
    complete_in_background,
)
from relab.stats.intervals import wilson
from relab.storage import Database

TOLD = {fact for look in PROBES.values() for fact in look.facts}


class Episode(BaseModel):
    """A recorded incident: its facts and log templates, and its true cause (`truth`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    truth: str
    facts: dict[str, bool | float | str]
    templates: dict[str, int] = {}

    @classmethod
    def of(cls, past: PastIncident) -> Episode:
        """Convert a past incident to an episode."""
        return cls(name=past.incident_id, truth=past.cause, facts=dict(past.facts), templates=dict(past.templates))


@dataclass
class Recorded:
    """Gives recorded facts as the results of probes; they never change."""

    facts: Mapping[str, FactValue]

    async def take(self, names: Sequence[str]) -> ProbeResult:
        """Return the recorded facts that the named probes give, with evidence."""
        wanted = {fact for name in names for fact in PROBES[name].facts}
        facts = {fact: value for fact, value in sorted(self.facts.items()) if fact in wanted}
        evidence = tuple(
            ProbeEvidence(f"ev-{fact}", "recorded", "recorded", "", fact, value, json.dumps(value), 0)
            for fact, value in facts.items()
        )
        return ProbeResult(facts, evidence)

    def poll(self) -> Snapshot:
        """Return a snapshot of the recorded facts that no probe gives; they came from the poll."""
        rest = {fact: value for fact, value in self.facts.items() if fact not in TOLD}
        numbers = {fact: value for fact, value in rest.items() if isinstance(value, float)}
        return Snapshot(at_us=0, numbers=numbers, words={f: v for f, v in rest.items() if isinstance(v, str)})


@dataclass
class Asked:
    """Sends prompts to a model without a budget, and keeps the answers and the events about them."""

    gateway: LlmGateway
    answers: list[ModelAnswer] = field(default_factory=list)
    messages: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    async def ask(self, prompt: Prompt) -> ModelAnswer:
        """Send the prompt to the model, and keep and return the answer."""
        answer = await complete_in_background(self.gateway, prompt, ModelAnswer)
        self.answers.append(answer)
        return answer

    async def append_event(
        self,
        kind: str,
        message: str,  # noqa: ARG002 the seam's parameter
        content: Mapping[str, Any],
        evidence: Sequence[str] = (),  # noqa: ARG002 the seam's parameter
    ) -> None:
        """Keep the kind and content of an event, such as a rejected answer."""
        self.messages.append((kind, content))


@dataclass(frozen=True)
class Row:
    """The diagnoses of one episode by the rules, the model, and both.

    Attributes:
        model: the model's answer; None if it gave no valid one.
        calls: the number of calls to the model.
        refusal: why the model's answer was rejected; None if it was not.
    """

    episode: Episode
    rules: Sequence[Candidate]
    model: ModelAnswer | None
    both: Sequence[Candidate]
    calls: int
    refusal: str | None

    def causes(self, variant: str) -> list[str]:
        """Return the causes that a variant (`rules`, `model` or `both`) named, the most likely first."""
        if variant == "model":
            return [] if self.model is None else [self.model.cause]
        return [item.cause for item in (self.rules if variant == "rules" else self.both)]

    def is_right(self, variant: str, depth: int = 1) -> bool:
        """Return whether the true cause is among the first `depth` causes of a variant (`rules`, `model` or `both`)."""
        return self.episode.truth in self.causes(variant)[:depth]


def read(path: Path) -> Iterator[Episode]:
    """Yield the episodes in a file with one JSON object per line."""
    for line in path.read_text().splitlines():
        if line.strip():
            yield Episode.model_validate_json(line)


def remembered(home: Path) -> Iterator[Episode]:
    """Yield the past incidents with facts from the database in a responder's home, as episodes."""
    database = Database.open(f"sqlite:///{home / 'relab.db'}")
    try:
        knowledge = KnowledgeService(database, folder=None, home_folder=home / "knowledge")
        yield from (Episode.of(past) for past in knowledge.latest() if past.facts)
    finally:
        database.close()


async def diagnose(episode: Episode, runbooks: Sequence[Runbook], gateway: LlmGateway) -> Row:
    """Diagnose one episode with the rules, and with the rules and the model together; return both diagnoses.

    Args:
        episode: the recorded incident.
        runbooks: the runbooks of all causes.
        gateway: calls the model.
    """
    source, asked = Recorded(episode.facts), Asked(gateway)
    rules = Investigator(source.take, runbooks)
    both = ModelInvestigator(
        source.take,
        runbooks,
        asked,
        seen=InvestigationInput(templates=episode.templates),
        settings=InvestigationSettings(),
        asking=ModelSettings(when=AskWhen.ALWAYS),
    )
    by_rules = await rules.investigate(await rules.gather(source.poll()))
    by_both = await both.investigate(await both.gather(source.poll()))
    refusal = next((str(content["refusal"]) for kind, content in asked.messages if kind == "model_refused"), None)
    model = asked.answers[-1] if asked.answers else None
    return Row(episode, by_rules.candidates, model, by_both.candidates, len(asked.answers), refusal)


def compare(episodes: Iterable[Episode], runbooks: Sequence[Runbook], gateway: LlmGateway) -> list[Row]:
    """Diagnose all episodes, one after the other, and return a row for each."""
    return [asyncio.run(diagnose(episode, runbooks, gateway)) for episode in episodes]


def summary(rows: Sequence[Row]) -> list[tuple[str, int, int, str]]:
    """Return the figures over all rows, as tuples of name, count, total, and 95 % interval as text."""
    wanted = [("rules", 1), ("rules", 3), ("model", 1), ("both", 1), ("both", 3)]
    counts = [
        (f"{variant}: right at {depth}", sum(row.is_right(variant, depth) for row in rows)) for variant, depth in wanted
    ]
    counts += [
        ("right with the model's word only", sum(row.is_right("both") and not row.is_right("rules") for row in rows)),
        ("wrong with the model's word only", sum(row.is_right("rules") and not row.is_right("both") for row in rows)),
        ("answers of the model that were refused", sum(row.refusal is not None for row in rows)),
        ("no answer of the model", sum(row.model is None for row in rows)),
    ]
    return [(said, count, len(rows), _interval(count, len(rows))) for said, count in counts]


def _interval(count: int, of: int) -> str:
    if not of:
        return "-"
    found = wilson(count, of)
    return f"{found.low:.1%} to {found.high:.1%}"


def _best(candidates: Sequence[Candidate]) -> str:
    return f"{candidates[0].cause} {candidates[0].probability:.2f}"


def print_tables(rows: Sequence[Row], console: Console) -> None:
    """Print a table with a line for each episode, and a table with the figures over all episodes."""
    table = Table("episode", "truth", "rules", "model", "rules with its word", "calls", "refused")
    for row in rows:
        said = "-" if row.model is None else f"{row.model.cause[:60]} {row.model.probability:.2f}"
        table.add_row(
            row.episode.name, row.episode.truth, _best(row.rules), said, _best(row.both), str(row.calls), row.refusal
        )
    console.print(table)
    figures = Table("figure", "n", "of", "95 % interval")
    for said, count, of, interval in summary(rows):
        figures.add_row(said, str(count), str(of), interval)
    console.print(figures)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, action="append", default=[], help="whose past incidents are episodes")
    parser.add_argument(
        "--episodes", type=Path, action="append", default=[], help="a file with an episode on each line"
    )
    parser.add_argument("--save", type=Path, help="write the episodes there, and ask no model")
    parser.add_argument("--model", help="as the endpoint calls it")
    parser.add_argument("--base-url", help="any server that speaks the protocol; by default the provider's own")
    parser.add_argument("--provider", choices=list(PROVIDERS), default=DEFAULT_PROVIDER)
    parser.add_argument("--timeout-s", type=float, default=60.0)
    parser.add_argument("--runbooks", type=Path, help="a folder that is laid over the shipped runbooks")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    episodes = [episode for path in options.episodes for episode in read(path)]
    episodes += [episode for home in options.home for episode in remembered(home)]
    if options.save is not None:
        options.save.write_text("".join(f"{episode.model_dump_json()}\n" for episode in episodes))
        return 0
    runbooks = load_library(options.runbooks).runbooks
    known = {UNKNOWN, *(book.cause for book in runbooks)}
    kept = [episode for episode in episodes if episode.truth in known]
    if not kept or options.model is None:
        console.print("Nothing to compare: give --home or --episodes with causes of the runbooks in use, and --model.")
        return 64
    key = os.environ.get(f"{options.provider.upper()}_API_KEY")
    try:
        config = LlmConfig(
            provider=options.provider,
            model=options.model,
            base_url=options.base_url,
            api_key=None if not key else SecretStr(key),
            timeout_s=options.timeout_s,
        )
        gateway = MeteredGateway(LangChainGateway(config))
    except (RelabError, ValueError) as error:
        console.print(str(error), markup=False)
        return 69
    # A fixed width, so that tables in a file are not wrapped.
    print_tables(compare(kept, runbooks, gateway), Console(width=None if sys.stdout.isatty() else 160))
    spent = gateway.spent
    console.print(f"calls: {spent.calls}, tokens: {spent.prompt_tokens} + {spent.completion_tokens}", markup=False)
    console.print(
        f"{len(episodes) - len(kept)} episodes have a cause without a runbook, and are left out", markup=False
    )
    return 0


if __name__ == "__main__":
    configure_logging("WARNING", json_lines=False)
    raise SystemExit(main())
