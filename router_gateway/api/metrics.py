"""Prometheus counters. Labels come from closed sets: never a key, user, tenant, session or prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from router_gateway.core.money import nusd_to_usd
from router_gateway.core.types import Attempt, Comparison, Decision, Endpoint, Feedback
from router_gateway.gateway import Timings

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_OUTCOMES = frozenset(
    {
        "ok",
        "client_closed",
        "invalid_request",
        "context_length_exceeded",
        "rate_limit_exceeded",
        "upstream_error",
        "upstream_timeout",
    }
)
_PROPENSITY = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


Metric = TypeVar("Metric", Counter, Histogram)


class PrometheusMeter:
    """Implements gateway.Meter on its own registry."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self.registry = CollectorRegistry()
        here = self.registry
        self._requests = _Family(
            Counter(
                "router_requests",
                "Requests answered",
                ["api", "policy", "model", "provider", "status_class", "stream"],
                registry=here,
            )
        )
        self._duration = _Family(
            Histogram(
                "router_request_duration_seconds",
                "Until the answer's last byte",
                ["api", "status_class"],
                buckets=_SECONDS,
                registry=here,
            )
        )
        self._decisions = _Family(
            Counter("router_decisions", "Routing decisions", ["policy", "model", "reason"], registry=here)
        )
        self._propensity = Histogram(
            "router_decision_propensity", "Probability of the chosen endpoint", buckets=_PROPENSITY, registry=here
        )
        self._overhead = _Family(
            Histogram(
                "router_overhead_seconds",
                "Time before the upstream was asked",
                ["stage"],
                buckets=_SECONDS,
                registry=here,
            )
        )
        self._attempts = _Family(
            Counter("router_upstream_attempts", "Tries at an endpoint", ["provider", "model", "outcome"], registry=here)
        )
        self._first_byte = _Family(
            Histogram(
                "router_time_to_first_token_seconds",
                "Upstream's first byte",
                ["model"],
                buckets=_SECONDS,
                registry=here,
            )
        )
        self._tokens = _Family(
            Counter("router_tokens", "Tokens billed", ["model", "direction", "cache"], registry=here)
        )
        self._cost = _Family(Counter("router_cost_usd", "Money spent upstream", ["model"], registry=here))
        self._feedback = _Family(Counter("router_feedback", "Feedback received", ["source"], registry=here))

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Expose a gauge that is read when it is scraped."""
        Gauge(name, help_text, registry=self.registry).set_function(read)

    def watch_circuits(self, states: Callable[[], Mapping[str, int]]) -> None:
        """Expose each endpoint's circuit: 0 closed, 1 open, 2 half-open."""

        def read() -> GaugeMetricFamily:
            family = GaugeMetricFamily("router_circuit_state", "0 closed, 1 open, 2 half-open", labels=["endpoint"])
            for name, state in states().items():
                family.add_metric([name], float(state))
            return family

        self.registry.register(_Scraped(read))

    def watch_gauges(
        self, name: str, help_text: str, labels: Sequence[str], read: Callable[[], Mapping[tuple[str, ...], float]]
    ) -> None:
        """Expose gauges that are kept elsewhere, by the values of their labels."""

        def read_all() -> GaugeMetricFamily:
            family = GaugeMetricFamily(name, help_text, labels=labels)
            for values, level in read().items():
                family.add_metric(values, level)
            return family

        self.registry.register(_Scraped(read_all))

    def watch_counts(
        self, name: str, help_text: str, labels: Sequence[str], read: Callable[[], Mapping[tuple[str, ...], float]]
    ) -> None:
        """Expose counters that are kept elsewhere, by the values of their labels; `_total` is added to the name."""

        def read_all() -> CounterMetricFamily:
            family = CounterMetricFamily(name, help_text, labels=labels)
            for values, count in read().items():
                family.add_metric(values, count)
            return family

        self.registry.register(_Scraped(read_all))

    def answered(self, decision: Decision | None, *, model: str, status: int, stream: bool) -> None:
        """One request of the Chat Completions API was answered, by endpoint `model` or (unserved) not by it."""
        endpoint = self._endpoints.get(model)
        self._requests.of(
            "chat",
            "none" if decision is None else decision.policy,
            "other" if endpoint is None else endpoint.name,
            "none" if endpoint is None else endpoint.provider,
            f"{status // 100}xx",
            str(stream).lower(),
        ).inc()

    def finished(self, *, api: str, status: int, seconds: float) -> None:
        """The last byte of a response is out, or its client is gone."""
        self._duration.of(api, f"{status // 100}xx").observe(seconds)

    def decided(self, decision: Decision, timings: Timings) -> None:
        self._decisions.of(decision.policy, decision.endpoint, decision.reason).inc()
        self._propensity.observe(decision.propensity)
        for stage, milliseconds in (("embed", timings.embed_ms), ("route", timings.route_ms)):
            self._overhead.of(stage).observe(milliseconds / 1e3)
        self._overhead.of("total").observe(timings.overhead_ms / 1e3)

    def attempted(self, attempt: Attempt) -> None:
        endpoint = self._endpoints[attempt.endpoint]
        self._attempts.of(endpoint.provider, attempt.endpoint, _outcome(attempt)).inc()
        if attempt.first_byte_ms is not None:
            self._first_byte.of(attempt.endpoint).observe(attempt.first_byte_ms / 1e3)
        self._cost.of(attempt.endpoint).inc(nusd_to_usd(attempt.cost_nusd))
        if attempt.usage is not None:
            self._tokens.of(attempt.endpoint, "input", "miss").inc(attempt.usage.tokens_input)
            self._tokens.of(attempt.endpoint, "input", "hit").inc(attempt.usage.tokens_cached_input)
            self._tokens.of(attempt.endpoint, "input", "write").inc(attempt.usage.tokens_cache_write)
            self._tokens.of(attempt.endpoint, "output", "off").inc(attempt.usage.tokens_completion)

    def said(self, feedback: Feedback | Comparison) -> None:
        self._feedback.of(feedback.source).inc()

    def text(self) -> bytes:
        """The exposition that Prometheus scrapes."""
        return generate_latest(self.registry)


class _Family(Generic[Metric]):
    """A metric whose series are found by their labels in one step; the library's own way takes a lock and copies."""

    __slots__ = ("_family", "_series")

    def __init__(self, family: Metric) -> None:
        self._family: Metric = family
        self._series: dict[tuple[str, ...], Metric] = {}

    def of(self, *labels: str) -> Metric:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = self._family.labels(*labels)
        return series


class _Scraped(Collector):
    """A family of metrics that is read when it is scraped."""

    def __init__(self, read: Callable[[], CounterMetricFamily | GaugeMetricFamily]) -> None:
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        yield self._read()


def _outcome(attempt: Attempt) -> str:
    """One of a closed set: an upstream's own error codes are words of its choice."""
    said = attempt.error or "ok"
    return said if said in _OUTCOMES else "refused"
