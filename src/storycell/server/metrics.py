"""What the server counts, for Prometheus.

In: requests as they end, what the engine measures. Out: the text of `/metrics`. Paths are counted by route and not as
they were sent, so a client cannot make up new series. Each server has a registry of its own.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from storycell.server.engine import Measure
from storycell.server.slots import Slots

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FIRST_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_SLICE_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


class Metrics:
    """Counters of one server."""

    def __init__(self, measure: Measure, slots: Slots) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "storycell_requests", "Requests answered, by route and status", ["route", "status"], registry=self._registry
        )
        self.read = Counter("storycell_chars_read", "Characters of prompts read", registry=self._registry)
        self.first_char_s = Histogram(
            "storycell_first_char_seconds",
            "From a request to its first character",
            buckets=_FIRST_S,
            registry=self._registry,
        )
        slices = Histogram(
            "storycell_slice_seconds", "Computing one slice of the batch", buckets=_SLICE_S, registry=self._registry
        )
        measure.observe_slice_s = slices.observe
        streams = Gauge("storycell_streams", "Texts being written", registry=self._registry)
        streams.set_function(lambda: measure.streams)
        states = Gauge("storycell_states", "States that are kept", registry=self._registry)
        states.set_function(lambda: len(slots))
        self._registry.register(_Written(measure))

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Written(Collector):
    """The engine's own counts; it has no time to lock a counter for each slice."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure

    def collect(self) -> list[Metric]:
        return [
            CounterMetricFamily("storycell_chars_written", "Characters written", self._measure.chars_written),
            CounterMetricFamily("storycell_busy_seconds", "Time spent computing the batch", self._measure.busy_s),
        ]
