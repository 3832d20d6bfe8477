"""Tokens times price, as an integer number of nano-dollars.

A nano-dollar (1e-9 USD) is fine enough for one token of the cheapest model on the market and small
enough that a signed 64-bit integer holds nine billion dollars; integers are exact in every database.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal

from router_gateway.core.types import Endpoint, Usage

NUSD_PER_USD = 1_000_000_000
_NUSD_PER_TOKEN_AT_ONE_USD_PER_MTOK = 1_000


def cost_nusd(usage: Usage, endpoint: Endpoint) -> int:
    """Price of one call in nano-dollars, rounded half up once, after summing.

    The five token classes are disjoint; reasoning tokens are billed as output.
    """
    usd_per_mtok = (
        usage.tokens_input * endpoint.price_input_usd_per_mtok
        + usage.tokens_cached_input * endpoint.price_cached_input_usd_per_mtok
        + usage.tokens_cache_write * endpoint.price_cache_write_usd_per_mtok
        + (usage.tokens_output + usage.tokens_reasoning) * endpoint.price_output_usd_per_mtok
    )
    return int((usd_per_mtok * _NUSD_PER_TOKEN_AT_ONE_USD_PER_MTOK).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def dearest_nusd(
    endpoints: Iterable[Endpoint], *, tokens_prompt: int, tokens_completion: int | None, answers: int = 1
) -> int:
    """What one call costs at most at the dearest of `endpoints`, in nano-dollars, rounded up; 0 without endpoints.

    Every prompt token counts at the dearest of its three prices, since nobody knows beforehand what is cached.
    Prompt and each of the `answers` count for no more than the endpoint's context; with `tokens_completion` None
    an answer takes all the room that the prompt leaves there.
    """
    return max((_bound_nusd(e, tokens_prompt, tokens_completion, answers) for e in endpoints), default=0)


def _bound_nusd(endpoint: Endpoint, tokens_prompt: int, tokens_completion: int | None, answers: int) -> int:
    context = endpoint.context_tokens_max
    prompt = min(tokens_prompt, context)
    completion = answers * (context - prompt if tokens_completion is None else min(tokens_completion, context))
    prompt_usd_per_mtok = max(
        endpoint.price_input_usd_per_mtok,
        endpoint.price_cached_input_usd_per_mtok,
        endpoint.price_cache_write_usd_per_mtok,
    )
    usd_per_mtok = prompt * prompt_usd_per_mtok + completion * endpoint.price_output_usd_per_mtok
    return int((usd_per_mtok * _NUSD_PER_TOKEN_AT_ONE_USD_PER_MTOK).to_integral_value(rounding=ROUND_CEILING))


def usd_to_nusd(usd: float | Decimal) -> int:
    """Dollars to nano-dollars, rounded half up; a float is read by its shortest decimal form."""
    exact = usd if isinstance(usd, Decimal) else Decimal(repr(float(usd)))
    return int((exact * NUSD_PER_USD).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def nusd_to_usd(nusd: int) -> float:
    """Nano-dollars to dollars, for display and statistics; never for sums."""
    return nusd / NUSD_PER_USD
