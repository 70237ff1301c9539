"""Count the data points in an OTLP request of metrics. relab stores no metrics, so nothing else is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from relab.telemetry.otlp.decoding import Rejections, iter_groups
from relab.telemetry.otlp.json_encoding import METRICS
from relab.telemetry.otlp.outline import MetricDataOutline, MetricOutline
from relab.telemetry.otlp.spans import MAX_REQUEST_PARTS, InvalidItemError, too_many_parts
from relab.telemetry.otlp_models import Encoding


@dataclass
class MetricsCount:
    """The number of data points of a request, and its rejected metrics.

    A metric is rejected if it cannot be read; it then counts as one rejected item, whatever its number of data points.
    """

    points: int = 0
    rejections: Rejections = field(default_factory=Rejections)


def count_data_points(body: bytes, encoding: Encoding) -> MetricsCount:
    """Count the data points of an `ExportMetricsServiceRequest`.

    Raises:
        MalformedBodyError: the body is not an `ExportMetricsServiceRequest` in this encoding.
        TooLargeError: the body has more than 10,000 resources or scopes, 4,000,000 metrics and data points, or (in JSON)
            10,000,000 braces, brackets and commas.
    """
    found = MetricsCount()
    parts = 0
    for group in iter_groups(body, encoding, METRICS):
        parts += group.count
        for raw in group.items:
            try:
                found.points += _points_of(raw)
            except InvalidItemError as error:
                found.rejections.add(str(error))
            if parts + found.points > MAX_REQUEST_PARTS:
                raise too_many_parts()
    return found


def _points_of(raw: bytes | InvalidItemError) -> int:
    """Return the number of data points of a metric in protobuf bytes.

    Raises:
        InvalidItemError: the metric cannot be decoded. If `raw` is an `InvalidItemError`, `raw` is raised.
    """
    if isinstance(raw, InvalidItemError):
        raise raw
    try:
        metric = MetricOutline.FromString(raw)
        kinds = (metric.gauge, metric.sum, metric.histogram, metric.exponential_histogram, metric.summary)
        return sum(len(MetricDataOutline.FromString(data).data_points) for data in kinds if data)
    except DecodeError as error:
        raise InvalidItemError(f"a metric cannot be decoded: {error}") from error
