"""Dialects: translate the attribute names of each family of instrumentations to one vocabulary.

Input: a decoded span. Output: the same span, with attributes under the names of `vocabulary.py` added.
"""

from relab.telemetry.otlp.dialects.registry import DIALECTS, normalize

__all__ = ["DIALECTS", "normalize"]
