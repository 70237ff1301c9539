"""The metrics that a server exports and their labels, including metrics without samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry

_SUFFIXES: dict[str, dict[str, tuple[str, ...]]] = {
    "counter": {"_total": ()},
    "gauge": {"": ()},
    "histogram": {"_bucket": ("le",), "_count": (), "_sum": ()},
    "gaugehistogram": {"_bucket": ("le",), "_gcount": (), "_gsum": ()},
}


def exported_labels(registry: CollectorRegistry) -> dict[str, frozenset[str]]:
    """Return the labels of each series name that a registry exports.

    `prometheus_client` has no public access to the label names of a metric without samples.
    """
    found: dict[str, frozenset[str]] = {}
    for collector in registry._collector_to_names:
        metrics: Iterable[Any] = [collector] if hasattr(collector, "_labelnames") else collector.collect()
        for metric in metrics:
            name, kind = getattr(metric, "_name", None) or metric.name, getattr(metric, "_type", None) or metric.type
            for suffix, more in _SUFFIXES[kind].items():
                found[name + suffix] = frozenset({*metric._labelnames, *more})
    return found
