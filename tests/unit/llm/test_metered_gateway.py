"""The metered gateway: adds up the cost of its own calls."""

from __future__ import annotations

import subprocess
import sys

from pydantic import BaseModel

from relab.llm import Budget, BudgetLimits, MeteredGateway, Prompt, ScriptedGateway, Spent

PRICED = BudgetLimits(prompt_usd_per_million=2.0, completion_usd_per_million=8.0)


class Word(BaseModel):
    word: str


def test_sums_the_cost_of_its_own_calls() -> None:
    prompt, shared = Prompt("system", "u" * 200), Budget(PRICED)
    gateway = ScriptedGateway([{"word": "a"}] * 3, budget=shared)
    mine, bills = MeteredGateway(gateway), list[Spent]()
    assert mine.spent == Spent(0, 0, 0, 0.0)
    gateway.complete(prompt, Word)
    mine.complete(prompt, Word)
    mine.complete(prompt, Word, billed=bills.append)
    tokens = prompt.most_tokens()
    assert mine.spent == Spent(2, 2 * tokens, 0, PRICED.usd(2 * tokens, 0))
    assert bills == [Spent(1, tokens, 0, PRICED.usd(tokens, 0))]
    assert shared.spent().calls == 3


def test_cost_without_a_price_is_unknown_and_not_zero() -> None:
    prompt = Prompt("system", "u" * 200)
    mine = MeteredGateway(ScriptedGateway([{"word": "a"}] * 2, budget=Budget(BudgetLimits())))
    assert mine.spent.usd == 0.0

    mine.complete(prompt, Word)
    mine.complete(prompt, Word)

    assert mine.spent.usd is None
    assert mine.spent.prompt_tokens == 2 * prompt.most_tokens()


def test_cost_without_the_price_of_answers_is_known_while_there_are_no_answers() -> None:
    limits = BudgetLimits(prompt_usd_per_million=2.0)

    assert limits.usd(1_000_000, 0) == 2.0
    assert limits.usd(1_000_000, 1) is None


def test_preload_imports_the_libraries_before_the_first_call() -> None:
    program = (
        "import sys\n"
        "from relab.llm import LangChainGateway, LlmConfig, MeteredGateway, NullGateway\n"
        "MeteredGateway(NullGateway()).preload()\n"
        "gateway = MeteredGateway(LangChainGateway(LlmConfig(model='m', base_url='http://127.0.0.1:1/v1')))\n"
        "before = 'langchain_openai' in sys.modules\n"
        "gateway.preload()\n"
        "print(before, 'langchain_openai' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False True"
