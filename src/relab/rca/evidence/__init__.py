"""Evidence: quotations from a run that show what happened in it.

Input: an `AgentRun`, and summaries of other runs. Output: a `RunView` (the run's steps, calls and errors in order of
time), and `Evidence`: verbatim quotations, which only `EvidenceCollector` makes.
"""

from relab.rca.evidence.collector import (
    MAX_SNIPPET_CHARS,
    EvidenceCollector,
    field_text,
    quotable_field,
)
from relab.rca.evidence.error_text import ErrorText, TextMatch, last_name, read_error
from relab.rca.evidence.failures import Failure, PlacedCall, PlacedStep, is_good_call
from relab.rca.evidence.generic_errors import is_generic_message
from relab.rca.evidence.quotation import Quotable, Quotation
from relab.rca.evidence.roles import is_person
from relab.rca.evidence.run_view import RunView

__all__ = [
    "MAX_SNIPPET_CHARS",
    "ErrorText",
    "EvidenceCollector",
    "Failure",
    "PlacedCall",
    "PlacedStep",
    "Quotable",
    "Quotation",
    "RunView",
    "TextMatch",
    "field_text",
    "is_generic_message",
    "is_good_call",
    "is_person",
    "last_name",
    "quotable_field",
    "read_error",
]
