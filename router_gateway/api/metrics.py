"""Prometheus counters. Labels come from closed sets: never a key, user, tenant, session or prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from router_gateway.api.tally import Counts, Spread
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


class PrometheusMeter:
    """Implements gateway.Meter on its own registry."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self.registry = CollectorRegistry()
        self._requests = self._counts(
            "router_requests",
            "Requests answered",
            ["api", "policy", "model", "provider", "status_class", "stream"],
        )
        self._duration = self._spread(
            "router_request_duration_seconds", "Until the answer's last byte", ["api", "status_class"]
        )
        self._decisions = self._counts("router_decisions", "Routing decisions", ["policy", "model", "reason"])
        self._propensity = self._spread(
            "router_decision_propensity", "Probability of the chosen endpoint", [], bounds=_PROPENSITY
        )
        self._overhead = self._spread("router_overhead_seconds", "Time before the upstream was asked", ["stage"])
        self._attempts = self._counts(
            "router_upstream_attempts", "Tries at an endpoint", ["provider", "model", "outcome"]
        )
        self._first_byte = self._spread("router_time_to_first_token_seconds", "Upstream's first byte", ["model"])
        self._tokens = self._counts("router_tokens", "Tokens billed", ["model", "direction", "cache"])
        self._cost = self._counts("router_cost_usd", "Money spent upstream", ["model"])
        self._feedback = self._counts("router_feedback", "Feedback received", ["source"])

    def _counts(self, name: str, help_text: str, labels: Sequence[str]) -> Counts:
        counts = Counts(name, help_text, labels)
        self.registry.register(counts)
        return counts

    def _spread(
        self, name: str, help_text: str, labels: Sequence[str], *, bounds: Sequence[float] = _SECONDS
    ) -> Spread:
        spread = Spread(name, help_text, labels, bounds=bounds)
        self.registry.register(spread)
        return spread

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
        self._requests.add(
            "chat",
            "none" if decision is None else decision.policy,
            "other" if endpoint is None else endpoint.name,
            "none" if endpoint is None else endpoint.provider,
            _class(status),
            "true" if stream else "false",
        )

    def finished(self, *, api: str, status: int, seconds: float) -> None:
        """The last byte of a response is out, or its client is gone."""
        self._duration.observe(seconds, api, _class(status))

    def decided(self, decision: Decision, timings: Timings) -> None:
        self._decisions.add(decision.policy, decision.endpoint, decision.reason)
        self._propensity.observe(decision.propensity)
        self._overhead.observe(timings.embed_ms / 1e3, "embed")
        self._overhead.observe(timings.route_ms / 1e3, "route")
        self._overhead.observe(timings.overhead_ms / 1e3, "total")

    def attempted(self, attempt: Attempt) -> None:
        name = attempt.endpoint
        self._attempts.add(self._endpoints[name].provider, name, _outcome(attempt))
        if attempt.first_byte_ms is not None:
            self._first_byte.observe(attempt.first_byte_ms / 1e3, name)
        self._cost.add(name, by=nusd_to_usd(attempt.cost_nusd))
        if (usage := attempt.usage) is not None:
            self._tokens.add(name, "input", "miss", by=usage.tokens_input)
            self._tokens.add(name, "input", "hit", by=usage.tokens_cached_input)
            self._tokens.add(name, "input", "write", by=usage.tokens_cache_write)
            self._tokens.add(name, "output", "off", by=usage.tokens_completion)

    def said(self, feedback: Feedback | Comparison) -> None:
        self._feedback.add(feedback.source)

    def text(self) -> bytes:
        """The exposition that Prometheus scrapes."""
        return generate_latest(self.registry)


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


def _class(status: int) -> str:
    return "2xx" if status == 200 else f"{status // 100}xx"
