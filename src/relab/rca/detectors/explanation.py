"""Explain a problem in sentences with facts of the run: what was sent, what was answered, and what to change.

Every value in an explanation is verbatim text of the run and has a quotation, so that the report can cite it. The
values are untrusted data: they are shown in quotation marks, on one line, cut to a maximum length, and never
interpreted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from relab.rca.detectors.problems import DetectedProblem
from relab.rca.evidence import MAX_SNIPPET_CHARS, Quotable, Quotation, RunView, field_text
from relab.rca.models import EvidenceKind
from relab.telemetry.models import Step, ToolCall

MAX_VALUE_CHARS: Final = 200
MAX_ASIDE_CHARS: Final = 80
CHARS_BEFORE: Final = 40
"""The number of characters of a long text that are shown before the words that show the problem."""
MAX_TEXT_CHARS: Final = 20_000
"""The number of characters of an error text that are read."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of a problem: the facts, and what to change.

    Attributes:
        facts: the facts, in complete sentences.
        fix: what to change, in complete sentences.
        quotes: quotations of the values in `facts` and `fix`.
        subject: what `facts` are about: the name of a tool or step, or "the run".
    """

    facts: str
    fix: str
    quotes: tuple[Quotation, ...]
    subject: str

    @property
    def clause(self) -> str:
        """The facts as a clause that can end another sentence.

        The first letter is small, the full stop is missing, and "it" replaces the name of the subject at the beginning.
        """
        name = self.subject[:1].upper() + self.subject[1:]
        facts = f"it{self.facts.removeprefix(name)}" if self.facts.startswith(name) else self.facts
        return (facts[:1].lower() + facts[1:]).removesuffix(".")


def ticked(text: str, limit: int = MAX_VALUE_CHARS) -> str:
    """Return a value of the run between backticks, on one line and cut to `limit` characters.

    A value that contains backticks is put between quotation marks instead.
    """
    line = " ".join(text.split())
    if len(line) > limit:
        line = f"{line[:limit]}…"
    mark = '"' if "`" in line else "`"
    return f"{mark}{line}{mark}"


class Facts:
    """Reads values from a run for the explanation of a problem, and collects these values as evidence.

    A method that cites a value appends it to `quotes` with its place in the run, and returns it between backticks.

    Args:
        problem: the problem to explain.
        view: the run.
    """

    def __init__(self, problem: DetectedProblem, view: RunView) -> None:
        self.problem = problem
        self.view = view
        self.quotes: list[Quotation] = []
        lead = problem.quotes[0]
        self._lead = lead
        self.text = field_text(lead.source, lead.field) or ""
        """The text of the field that shows the problem, usually an error message."""
        placed = view.call(problem.call_id)
        self.call: ToolCall | None = placed.call if placed is not None else None
        step = view.step(problem.step_id)
        self.step: Step | None = step.step if step is not None else None

    @property
    def source(self) -> tuple[EvidenceKind, Quotable] | None:
        """The call that has the problem; if there is none, the step; None if the problem names neither."""
        if self.call is not None:
            return EvidenceKind.TOOL_CALL, self.call
        return (EvidenceKind.STEP, self.step) if self.step is not None else None

    @property
    def subject(self) -> str:
        """The name of the tool or the step that has the problem; "the run" if the problem names neither."""
        if self.call is not None:
            return ticked(self.call.tool_name)
        return f"the step {ticked(self.step.name)}" if self.step is not None else "the run"

    def error(self) -> str | None:
        """Return the text that shows the problem, usually an error message, between backticks; None without a text.

        Of a long text, only a part around the relevant words is used. The text is also added to `quotes`, the evidence
        of the explanation.
        """
        if not self.text.strip():
            return None
        if len(self.text) > MAX_SNIPPET_CHARS:
            # The evidence holds a part of a long text; show that part, around the words that show the problem.
            start = 0 if self._lead.end <= MAX_VALUE_CHARS else max(0, self._lead.start - CHARS_BEFORE)
            return self.part(start, start + MAX_VALUE_CHARS + 1)
        self.quotes.append(self._lead)
        return ticked(self.text)

    def part(self, start: int, end: int) -> str:
        """Return the part `start:end` of the text that shows the problem, between backticks, and add it to `quotes`."""
        lead = self._lead
        self.quotes.append(Quotation(lead.kind, lead.source, lead.field, start, end))
        return ticked(self.text[start:end])

    def match(self, pattern: re.Pattern[str], group: str | int = 0) -> str | None:
        """Return the `group` of a pattern's first match in the text that shows the problem; None without a match.

        The result is between backticks. It is also added to `quotes`, the evidence of the explanation.
        """
        found = pattern.search(self.text[:MAX_TEXT_CHARS])
        if found is None or not found[group]:
            return None
        return self.part(*found.span(group))

    def field(self, name: str, limit: int = MAX_VALUE_CHARS) -> str | None:
        """Return the value of a field of the call or step with the problem, cut to `limit` characters.

        The field is also added to `quotes`, the evidence of the explanation. Return None if the field is empty or
        absent, or if the problem names neither a call nor a step.
        """
        source = self.source
        text = field_text(source[1], name) if source is not None else None
        if source is None or text is None or not text.strip():
            return None
        # The beginning of the text is shown. If the text is long, the quotation of the problem may lack it.
        is_lead = self._lead.source is source[1] and self._lead.field == name and len(text) <= MAX_SNIPPET_CHARS
        self.quotes.append(self._lead if is_lead else Quotation(*source, name))
        return ticked(text, limit)

    def arguments(self) -> str | None:
        """Return the arguments of the call between backticks, and add them to `quotes`; None if they are not known."""
        return self.field("args_json") if self.call is not None else None

    def short_arguments(self) -> str | None:
        """Return the first `MAX_ASIDE_CHARS` characters of the call's arguments; None if they are not known.

        The arguments are also added to `quotes`, the evidence of the explanation.
        """
        return self.field("args_json", MAX_ASIDE_CHARS) if self.call is not None else None

    def explanation(self, facts: str, fix: str) -> Explanation:
        """Return the explanation of the problem, with the quotations that the other methods collected in `quotes`.

        If `quotes` is empty, the quotations of the problem are used. If no quotation is from the call or step with the
        problem, the status of this call or step is quoted too.

        Args:
            facts: what happened; it is made a sentence, with a capital letter and a full stop.
            fix: what to change; it is made a sentence too.
        """
        quotes = tuple(self.quotes) or self.problem.quotes
        source = self.source
        if source is not None and not any(quote.source is source[1] for quote in quotes):
            quotes = (*quotes, Quotation(*source, "status"))
        return Explanation(sentence(facts), sentence(fix), quotes, self.subject)


def sentence(text: str) -> str:
    """Return the text with a capital first letter, and with a full stop unless it ends with `.`, `!` or `?`."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def listed(names: list[str]) -> str:
    """Return names, unchanged, as a list in words: `["a", "b", "c"]` becomes the text `a, b and c`.

    There must be at least one name.
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
