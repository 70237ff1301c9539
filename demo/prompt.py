"""The prompts of the demo agent, and the parser with which the agent reads them.

The agent follows rules instead of a model. Its playbooks and limits are parsed from the text, so a changed sentence
changes the agent's behaviour, as it would with a language model.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_INSTRUCTION = re.compile(r"(?P<tool>\w+)(?: for each (?P<each>\w+))?(?P<until_ready> until ready)?")
_MAX_CALLS = re.compile(r"at most (\d+) tool calls")
_PATIENCE = re.compile(r"Wait at most ([\d.]+) s")


@dataclass(frozen=True)
class Instruction:
    """An instruction to use a tool.

    Attributes:
        tool: the name of the tool.
        each: use it once for each value of the fact with this name; None: use it once.
        until_ready: use it repeatedly until it answers `ready`.
    """

    tool: str
    each: str | None = None
    until_ready: bool = False


@dataclass(frozen=True)
class Prompt:
    """A version of a prompt. Its version is also the version of the agent that uses it."""

    version: str
    text: str

    @property
    def hash(self) -> str:
        """The hash of the text: `sha256:` and hexadecimal digits."""
        return "sha256:" + hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def max_calls(self) -> int:
        """The maximum number of tool calls of a run."""
        return int(self._number(_MAX_CALLS))

    @property
    def patience_s(self) -> float:
        """The maximum time that the agent waits when a tool answers with Retry-After, in seconds."""
        return float(self._number(_PATIENCE))

    def playbook(self, topic: str) -> tuple[Instruction, ...]:
        """Return the instructions that the prompt gives for a topic.

        Raises:
            ValueError: the prompt has no instructions for the topic, or one cannot be parsed.
        """
        line = re.search(rf"^{re.escape(topic)}: (.+)$", self.text, re.MULTILINE)
        if line is None:
            raise ValueError(f"the prompt {self.version} has no playbook for {topic!r}")
        return tuple(self._instruction(part) for part in line[1].split(", "))

    def _instruction(self, text: str) -> Instruction:
        match = _INSTRUCTION.fullmatch(text)
        if match is None:
            raise ValueError(f"the prompt {self.version} holds an instruction that cannot be read: {text!r}")
        return Instruction(match["tool"], match["each"], match["until_ready"] is not None)

    def _number(self, pattern: re.Pattern[str]) -> str:
        match = pattern.search(self.text)
        if match is None:
            raise ValueError(f"the prompt {self.version} does not say {pattern.pattern!r}")
        return match[1]


PROMPT_V1 = Prompt(
    "1.0.0",
    """\
You help the customers of a small shop. Say only what a tool told you.
Order status: find_customer, find_order
Policy: search_help
Invoice: make_invoice
Parcels: track_parcel for each parcel
Refund: pay_refund
Stock: check_stock
Return label: print_label until ready
Points: find_customer, credit_points
Make at most 6 tool calls.
Wait at most 2 s when a tool asks you to wait.
""",
)

PROMPT_V2 = Prompt(
    "1.1.0",
    # This change was meant to save a call: the agent asks the help centre without looking up the customer.
    PROMPT_V1.text.replace("Order status: find_customer, find_order", "Order status: search_help"),
)
