"""What a call can cost at most and how long it can last: what a budget has to set aside for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from router_gateway.core.money import dearest_nusd
from router_gateway.core.prices import priced_at
from router_gateway.core.types import Endpoint, Query

_CHOICES_MAX = 128  # the most answers to one request that providers offer


@dataclass(frozen=True, slots=True, kw_only=True)
class CostBound:
    """`endpoints` by name.

    `output_tokens_assumed` bounds an answer where the client set no bound, None for all that the endpoint can
    write. `prompt_margin` is how many times our own count of the prompt's tokens the provider's may be.
    """

    endpoints: Mapping[str, Endpoint]
    output_tokens_assumed: int | None = 4096
    prompt_margin: float = 1.5

    def cost_nusd(self, order: Sequence[str], query: Query, *, choices: object = 1, now: datetime | None = None) -> int:
        """Nano-dollars that one answered try costs at most, at the dearest endpoint of `order`.

        choices : the body's `n`; anything that is no number of answers counts as 1
        now : when the call begins; counted are the prices from then until its last try has ended. None: the pool's
        """
        completion = self.output_tokens_assumed if query.tokens_output_max is None else query.tokens_output_max
        return dearest_nusd(
            self._of(order) if now is None else self._priced(order, now),
            tokens_prompt=ceil(query.tokens_input * self.prompt_margin),
            tokens_completion=completion,
            answers=min(max(choices, 1), _CHOICES_MAX) if type(choices) is int else 1,
        )

    def lasts_s(self, order: Sequence[str]) -> float:
        """Seconds after which every try along `order` has ended."""
        return sum(endpoint.timeout_s for endpoint in self._of(order))

    def _priced(self, order: Sequence[str], now: datetime) -> Iterator[Endpoint]:
        """The endpoints at every price that a try of a call from `now` on can meet."""
        until = now + timedelta(seconds=self.lasts_s(order))
        for endpoint in self._of(order):
            yield priced_at(endpoint, now)
            yield from (priced_at(endpoint, c.at) for c in endpoint.price_changes if now < c.at <= until)

    def _of(self, order: Sequence[str]) -> list[Endpoint]:
        return [self.endpoints[name] for name in dict.fromkeys(order) if name in self.endpoints]
