"""Check whether a report agrees with the real answers of the tool server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from relab.rca.models import Category, Finding, Hypothesis, Report


@dataclass(frozen=True)
class Expected:
    """The content that a report should have.

    Attributes:
        category: the category of the failure.
        quote: a text that a snippet cited for the category must contain; None: any.
        insufficient: whether the report should say that the evidence is not sufficient.
        recovered: whether the run recovered from the problem, so that the report must not name it as the cause of a
            failure.
    """

    category: Category
    quote: str | None = None
    insufficient: bool = False
    recovered: bool = False

    def disagreement(self, report: Report) -> str | None:
        """Return how a report differs from the expected content, as text; None if it does not."""
        if report.insufficient_evidence is not self.insufficient:
            said = "not enough" if report.insufficient_evidence else "enough"
            return f"it says that there is {said} evidence"
        if self.recovered:
            return self._recovery_disagreement(report)
        if report.category is not self.category:
            return f"it says {report.category.value}, the tool server did {self.category.value}"
        if self.quote is not None and not any(self.quote in snippet for snippet in self._quoted(report)):
            return f"nothing that it cites for {self.category.value} quotes {self.quote!r}"
        return None

    def _quoted(self, report: Report) -> Iterator[str]:
        """Yield the snippets that the report cites for the expected category."""
        snippets = {item.evidence_id: item.snippet for item in report.evidence_index}
        claims: list[Hypothesis | Finding] = [*report.hypotheses, *report.findings]
        for claim in claims:
            if claim.category is self.category:
                yield from (snippets[evidence_id] for evidence_id in claim.evidence_ids)

    def _recovery_disagreement(self, report: Report) -> str | None:
        if report.hypotheses:
            return f"it blames {report.hypotheses[0].category.value} for a failure; the run succeeded"
        if not any(finding.recovered and finding.category is self.category for finding in report.findings):
            return f"it does not list the {self.category.value} that the run recovered from"
        return None
