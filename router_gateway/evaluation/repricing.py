"""What logged decisions would have cost, and been expected to cost, at other prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from router_gateway.core.types import Endpoint
from router_gateway.evaluation.audit_question import NewPrice
from router_gateway.ledger.decided import Decided, Tried

_USD_PER_MTOK = 1e-6
_OUTPUT_TOKENS = 300.0  # where no call of an endpoint says how long its answers are


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """USD per token by which (input, cached input, cache write, output) get dearer, and the present two."""

    by: tuple[float, float, float, float]
    input_usd: float
    output_usd: float


class Repricing:
    """Adds to every cost what the change of price makes of its tokens, so that what else is in the cost stays."""

    def __init__(
        self, pool: Sequence[Endpoint], prices: Mapping[str, NewPrice], output_tokens: Mapping[str, float]
    ) -> None:
        """output_tokens : mean of a call, by endpoint. Every name in `prices` must be in the pool."""
        known = {endpoint.name: endpoint for endpoint in pool}
        self._changes = {name: _change(known[name], price) for name, price in prices.items()}
        self._output_tokens = output_tokens

    def __call__(self, decided: Decided) -> Decided:
        """The decision at the new prices."""
        if not self._changes:
            return decided
        paid = sum(self._dearer(one, decided.tokens_input) for one in decided.tried)
        expected = [
            usd if usd is None or name not in self._changes else self._expected(name, usd, decided.tokens_input)
            for name, usd in zip(decided.candidates, decided.expected_cost_usd, strict=False)
        ]
        return replace(decided, cost_usd=max(decided.cost_usd + paid, 0.0), expected_cost_usd=expected)

    def _dearer(self, one: Tried, tokens_input: int) -> float:
        change = self._changes.get(one.endpoint)
        if change is None or (one.tokens is None and not one.cost_usd):  # a call that failed before it cost anything
            return 0.0
        tokens = one.tokens or (tokens_input, 0, 0, self._output(one.endpoint))
        return float(sum(by * count for by, count in zip(change.by, tokens, strict=True)))

    def _expected(self, name: str, usd: float, tokens_input: int) -> float:
        change = self._changes[name]
        told = self._output(name)
        if change.output_usd > 0:  # what the gateway expected the answer to be long
            told = max(usd - tokens_input * change.input_usd, 0.0) / change.output_usd
        return max(usd + change.by[0] * tokens_input + change.by[3] * told, 0.0)

    def _output(self, name: str) -> float:
        return self._output_tokens.get(name, _OUTPUT_TOKENS)


def _change(endpoint: Endpoint, price: NewPrice) -> _Change:
    kinds = ("input", "cached_input", "cache_write", "output")
    now = [float(getattr(endpoint, f"price_{kind}_usd_per_mtok")) for kind in kinds]
    times = price.input_usd_per_mtok / now[0] if now[0] > 0 else None
    prompts = [price.input_usd_per_mtok if times is None else each * times for each in now[:3]]
    new = [*prompts, price.output_usd_per_mtok]
    by = [(after - before) * _USD_PER_MTOK for after, before in zip(new, now, strict=True)]
    return _Change(by=(by[0], by[1], by[2], by[3]), input_usd=now[0] * _USD_PER_MTOK, output_usd=now[3] * _USD_PER_MTOK)
