"""Dialects: translate the attributes of a span from the names of its instrumentation to one vocabulary.

In: a span as it was decoded. Out: the same span with the names of `vocabulary.py` added to its attributes.
"""

from relab.telemetry.otlp.dialects.registry import DIALECTS, normalize

__all__ = ["DIALECTS", "normalize"]
