"""Metrics as the text that Prometheus reads: prometheus-client's, of either format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry

from hastfs import __version__
from hastfs.daemon.metrics.catalogue import METRICS, OF_DAEMON, TIMINGS, Metric, Timing
from hastfs.details import LATENCY_BOUNDS, Details, Histogram

_BOUNDS = tuple(str(bound / 1e6) for bound in LATENCY_BOUNDS)
_FAMILIES = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}


def exposition(seen: Mapping[str, Details], took: float, accept: str) -> tuple[bytes, str]:
    """The text, and its content type, which depends on the client's `Accept`. `took`: seconds to look."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # what it makes of nonsense, whose sender gets what all others get
        encode, content_type = choose_encoder("")
    registry = CollectorRegistry()
    registry.register(_Seen(seen, took))
    return encode(registry), content_type


class _Seen(Collector):
    def __init__(self, seen: Mapping[str, Details], took: float) -> None:
        self._seen = seen
        self._took = took

    def describe(self) -> list[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        build, look = (
            GaugeMetricFamily(name, help, labels=labels)
            for (name, _, help), labels in zip(OF_DAEMON, (["version"], []), strict=True)
        )
        build.add_metric([__version__], 1)
        look.add_metric([], self._took)
        yield from (build, look)
        for metric in METRICS:
            yield self._family(metric)
        for timing in TIMINGS:
            yield self._histogram(timing)

    def _family(self, metric: Metric) -> Family:
        family: GaugeMetricFamily | CounterMetricFamily = _FAMILIES[metric.kind](
            metric.name, metric.help, labels=("resource", *metric.labels)
        )
        for resource, details in self._seen.items():
            for labels, number in metric.numbers(details):
                family.add_metric((resource, *labels), number)
        return family

    def _histogram(self, timing: Timing) -> Family:
        family = HistogramMetricFamily(timing.name, timing.help, labels=("resource", *timing.labels))
        for resource, details in self._seen.items():
            for labels, histogram in timing.histograms(details):
                family.add_metric((resource, *labels), _buckets(histogram), histogram.total)
        return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulated, with the upper bound of each in seconds."""
    buckets, sum_so_far = [], 0
    for bound, count in zip((*_BOUNDS, "+Inf"), histogram.counts, strict=True):
        sum_so_far += count
        buckets.append((bound, float(sum_so_far)))
    return buckets
