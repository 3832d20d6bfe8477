"""Walks an order of endpoints until one gives its first content; one Attempt per try."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from router_gateway.core.errors import AllEndpointsFailed, UpstreamError, UpstreamRateLimited, UpstreamTimeout
from router_gateway.core.types import Endpoint, WireProtocol
from router_gateway.dispatch.answer import Answer, begin
from router_gateway.dispatch.circuit import Circuit, CircuitLimits, CircuitStatus, Entry, State
from router_gateway.dispatch.trial import OnAttempt, Trial
from router_gateway.dispatch.upstream import Call, ContextLengthExceeded, Upstream


class FallbackDispatcher:
    """Sends a call to the best endpoint that answers.

    `endpoints` by name; `upstreams` by the wire protocol they speak. Every endpoint has a circuit that
    outlives the call. An endpoint is left only before its first content; role-only stream events are
    held back until then, so a failure before it costs the client nothing but time.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        upstreams: Mapping[WireProtocol, Upstream],
        *,
        circuit_limits: CircuitLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoints = dict(endpoints)
        self._upstreams = dict(upstreams)
        self._circuits = {name: Circuit(circuit_limits, clock=clock) for name in endpoints}

    async def send(self, order: Sequence[str], call: Call, on_attempt: OnAttempt) -> Answer:
        """The first answer along `order`, best endpoint first.

        Endpoints with an open circuit are skipped, unless all are open: then they are tried after all.
        `on_attempt` is called once per try, at its end; for a stream that is when the stream ends.

        Raises the endpoint's own UpstreamError after a single try; after several UpstreamRateLimited or
        ContextLengthExceeded if that is what all of them said, else AllEndpointsFailed.
        """
        now_s = asyncio.get_running_loop().time
        deadline_s = None if call.deadline_s is None else now_s() + call.deadline_s
        failures: dict[str, UpstreamError] = {}
        known = [name for name in dict.fromkeys(order) if name in self._endpoints]
        if not known:
            raise AllEndpointsFailed("none of the endpoints named is configured")
        for endpoint, entry in self._admitted(known):
            if deadline_s is not None and now_s() >= deadline_s:
                entry.left()
                break
            trial = Trial(
                number=len(failures) + 1,
                endpoint=endpoint,
                call=call,
                entry=entry,
                deadline_s=deadline_s,
                record=on_attempt,
            )
            try:
                return await begin(trial, self._upstreams[endpoint.protocol])
            except UpstreamError as error:
                failures[endpoint.name] = error
        raise _verdict(failures)

    def circuit_states(self) -> dict[str, State]:
        """The state of every endpoint's circuit, for metrics and health."""
        return {name: circuit.state for name, circuit in self._circuits.items()}

    def circuits(self) -> dict[str, CircuitStatus]:
        """Every endpoint's circuit with its reasons and its load, for people."""
        return {name: circuit.status for name, circuit in self._circuits.items()}

    async def aclose(self) -> None:
        """Release every upstream's connections."""
        for upstream in self._upstreams.values():
            await upstream.aclose()

    def _admitted(self, order: Sequence[str]) -> Iterator[tuple[Endpoint, Entry]]:
        # Each circuit is asked when its turn comes: a probe slot taken early would be held for nothing.
        skipped = True
        for name in order:
            entry = self._circuits[name].enter()
            if entry is not None:
                skipped = False
                yield self._endpoints[name], entry
        if skipped:
            for name in order:
                entry = self._circuits[name].enter(force=True)
                assert entry is not None
                yield self._endpoints[name], entry


def _verdict(failures: Mapping[str, UpstreamError]) -> UpstreamError:
    errors = list(failures.values())
    if not errors:
        return UpstreamTimeout("the call's deadline passed before any endpoint was tried")
    if len(errors) == 1:
        return errors[0]
    told = "no endpoint answered: " + ", ".join(f"{name} ({error.code})" for name, error in failures.items())
    if all(isinstance(error, ContextLengthExceeded) for error in errors):
        return ContextLengthExceeded(told)
    limited = [error for error in errors if isinstance(error, UpstreamRateLimited)]
    if len(limited) == len(errors):
        pauses_s = [error.retry_after_s for error in limited if error.retry_after_s is not None]
        return UpstreamRateLimited(told, retry_after_s=min(pauses_s, default=None))
    return AllEndpointsFailed(told)
