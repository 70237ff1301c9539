"""The report of an analysis, which is made for people to read.

Input: problems and ranked causes. Output: a `Report`, in which every claim cites evidence. `grounding.py` decides which
sentences of a language model may replace the summary; `rca/wording.py` calls the model.
"""

from relab.rca.report.composition import compose
from relab.rca.report.grounding import DropReason, check_claim, check_text, normal_text

__all__ = ["DropReason", "check_claim", "check_text", "compose", "normal_text"]
