"""The books of one try at one endpoint: its clocks, its circuit, its price; recorded exactly once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from router_gateway.core.errors import GatewayError, UpstreamError, UpstreamRateLimited, UpstreamTimeout
from router_gateway.core.money import cost_nusd
from router_gateway.core.prices import priced_at
from router_gateway.core.types import Attempt, Endpoint, Usage
from router_gateway.dispatch.circuit import Entry
from router_gateway.dispatch.upstream import BrokenAnswer, Call, ConnectTimeout, ContextLengthExceeded, UpstreamRefused
from router_gateway.dispatch.usage import count_request_tokens, header_cost_nusd

OnAttempt = Callable[[Attempt], None]
CLIENT_CLOSED = "client_closed"
"""`Attempt.error` of a try that the client left."""


class Trial:
    """One try. `conclude` may be called from several exits; the first one counts.

    `deadline_s` is the event loop's time at which the whole call must be over, or None.
    """

    def __init__(
        self, *, number: int, endpoint: Endpoint, call: Call, entry: Entry, deadline_s: float | None, record: OnAttempt
    ) -> None:
        self.endpoint = endpoint
        self.call = call
        self.concluded = False
        self.upstream_status = 0
        self._header_cost_nusd: int | None = None
        self._number = number
        self._entry = entry
        self._record = record
        self._deadline_s = deadline_s
        self._at = datetime.now(UTC)
        self._loop = asyncio.get_running_loop()
        self._started_s = self._loop.time()
        self._began = time.perf_counter()  # the loop counts whole milliseconds, and not all of them
        self._first_byte_ms: float | None = None

    @property
    def until_s(self) -> float:
        """Loop time at which the answer must be complete."""
        return self._within(self.endpoint.timeout_s)

    @property
    def first_until_s(self) -> float:
        """Loop time at which content must have come: for a whole answer, that is the end."""
        return self._within(self.endpoint.first_token_timeout_s) if self.call.stream else self.until_s

    @property
    def remaining_s(self) -> float:
        """Seconds until `first_until_s`."""
        return max(self.first_until_s - self._loop.time(), 0.0)

    def headed(self, status: int, headers: Mapping[str, str]) -> None:
        """The answer's head is here."""
        self.upstream_status = status
        self._header_cost_nusd = header_cost_nusd(headers)

    def first_byte(self) -> None:
        """A stream's first content, or a whole answer's head, is here."""
        self._first_byte_ms = self._elapsed_ms()
        if self.call.stream:
            self._entry.answering()

    def timed_out(self) -> UpstreamTimeout:
        """The error for a clock of this try that ran out."""
        if self._late():
            return UpstreamTimeout(f"endpoint {self.endpoint.name}: the call's deadline passed")
        return UpstreamTimeout(f"endpoint {self.endpoint.name}: no answer in time")

    def conclude(
        self,
        error: BaseException | str | None = None,
        *,
        usage: Usage | None = None,
        tokens_output: int = 0,
        provider_cost_nusd: int | None = None,
    ) -> None:
        """Record the attempt and tell the circuit.

        `error` is what ended the try, a code of the client's own mistake, or None for success; `usage` what
        the upstream reported; `tokens_output` our own count of what it sent, used when it reported nothing;
        `provider_cost_nusd` what the upstream said that the call costs.
        """
        if self.concluded:
            return
        self.concluded = True
        self._tell_circuit(error)
        estimated = usage is None and _owes(error, tokens_output)
        priced = usage
        if estimated:
            priced = Usage(tokens_input=count_request_tokens(self.call.body), tokens_output=tokens_output)
        self._record(
            Attempt(
                query_id=self.call.query_id,
                number=self._number,
                at=self._at,
                endpoint=self.endpoint.name,
                status=self.upstream_status or _status(error),
                usage=usage,
                cost_nusd=cost_nusd(priced, priced_at(self.endpoint, self._at)) if priced else 0,
                cost_estimated=estimated,
                provider_cost_nusd=self._header_cost_nusd if provider_cost_nusd is None else provider_cost_nusd,
                first_byte_ms=self._first_byte_ms,
                latency_ms=self._elapsed_ms(),
                error=_code(error),
            )
        )

    def _tell_circuit(self, error: BaseException | str | None) -> None:
        if error is None:
            self._entry.succeeded()
        elif not isinstance(error, UpstreamError) or isinstance(error, ContextLengthExceeded):
            self._entry.left()
        elif isinstance(error, UpstreamTimeout) and self._late():
            self._entry.left()  # the caller's haste, not the endpoint's fault
        else:
            asked_s = error.retry_after_s if isinstance(error, UpstreamRateLimited | UpstreamRefused) else None
            self._entry.failed(retry_after_s=asked_s, code=error.code)

    def _within(self, timeout_s: float) -> float:
        end_s = self._started_s + timeout_s
        return end_s if self._deadline_s is None else min(end_s, self._deadline_s)

    def _late(self) -> bool:
        return self._deadline_s is not None and self._loop.time() >= self._deadline_s

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._began) * 1000


def _owes(error: BaseException | str | None, tokens_output: int) -> bool:
    """Whether a try without reported usage will probably be billed.

    So are answers, whole or broken off after some content; and calls that were given up while the
    endpoint was working on them, by the client or by our clock. A refusal costs nothing.
    """
    if error is None or tokens_output > 0 or isinstance(error, BrokenAnswer):
        return True
    given_up = error == CLIENT_CLOSED or isinstance(error, asyncio.CancelledError | UpstreamTimeout)
    return given_up and not isinstance(error, ConnectTimeout)


def _status(error: BaseException | str | None) -> int:
    match error:
        case UpstreamRefused():
            return error.upstream_status
        case UpstreamRateLimited() | ContextLengthExceeded():
            return error.status
        case _:
            return 0


def _code(error: BaseException | str | None) -> str | None:
    match error:
        case None | str():
            return error
        case GatewayError():
            return error.code
        case asyncio.CancelledError() | GeneratorExit():
            return CLIENT_CLOSED
        case _:
            return GatewayError.code
