"""Endpoints as the configuration says them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from router_gateway.core.prices import ALWAYS, PriceChange, priced_at
from router_gateway.core.types import Endpoint, WireProtocol

REPLAY = "replay"
"""As an endpoint's `base_url`: the bundled replay server answers for it."""

OPENAI_URL = "https://api.openai.com/v1"

Price = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]

_CHANGES_MAX = 1_000


class Prices(BaseModel):
    """Four prices in USD per million tokens; those of cached prompts are the input price where they are not given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    price_input_usd_per_mtok: Price
    price_output_usd_per_mtok: Price
    price_cached_input_usd_per_mtok: Price | None = None
    price_cache_write_usd_per_mtok: Price | None = None

    def since(self, at: datetime) -> PriceChange:
        """These prices, in force from `at` on."""
        return PriceChange(
            at=at,
            price_input_usd_per_mtok=self.price_input_usd_per_mtok,
            price_output_usd_per_mtok=self.price_output_usd_per_mtok,
            price_cached_input_usd_per_mtok=_or(self.price_cached_input_usd_per_mtok, self.price_input_usd_per_mtok),
            price_cache_write_usd_per_mtok=_or(self.price_cache_write_usd_per_mtok, self.price_input_usd_per_mtok),
        )


class DatedPrices(Prices):
    """Prices that replace all earlier ones at an instant, which says its timezone."""

    at: AwareDatetime


class EndpointSettings(Prices):
    """One model behind one URL or provider; `ability` is the mean quality expected of it before anything is known."""

    name: Name
    model: str = Field(min_length=1, max_length=200)
    protocol: WireProtocol | None = None
    base_url: str | None = Field(None, pattern=r"^(replay|https?://.+)$")
    api_key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    price_changes: list[DatedPrices] = Field(default_factory=list, max_length=_CHANGES_MAX)
    context_tokens_max: int = Field(ge=1)
    ability: float | None = Field(None, ge=0.01, le=0.99, allow_inf_nan=False)
    offers: frozenset[Literal["tools", "json", "vision", "audio"]] = frozenset()
    region: str | None = None
    collects_data: bool = False
    connect_timeout_s: PositiveFloat = 5.0
    first_token_timeout_s: PositiveFloat = 60.0
    timeout_s: PositiveFloat = 600.0

    @field_validator("price_changes")
    @classmethod
    def _one_at_a_time(cls, changes: list[DatedPrices]) -> list[DatedPrices]:
        if len({change.at for change in changes}) < len(changes):
            raise ValueError("two changes at the same instant")
        return changes

    def build(self, now: datetime | None = None) -> Endpoint:
        """The endpoint as routing and dispatch know it, at the prices of `now`."""
        prefix, _, rest = self.model.partition("/")
        speaks_openai = self.base_url is not None or prefix == "openai" or not rest
        protocol: WireProtocol = self.protocol or ("openai" if speaks_openai else "litellm")
        plain_openai = protocol == "openai" and self.base_url is None
        first = self.since(ALWAYS)
        endpoint = Endpoint(
            name=self.name,
            model=rest if plain_openai and prefix == "openai" else self.model,
            protocol=protocol,
            base_url=OPENAI_URL if plain_openai else self.base_url,
            provider="replay" if self.base_url == REPLAY else (prefix if rest else "openai"),
            price_input_usd_per_mtok=first.price_input_usd_per_mtok,
            price_output_usd_per_mtok=first.price_output_usd_per_mtok,
            price_cached_input_usd_per_mtok=first.price_cached_input_usd_per_mtok,
            price_cache_write_usd_per_mtok=first.price_cache_write_usd_per_mtok,
            price_changes=self._table(first),
            context_tokens_max=self.context_tokens_max,
            offers=frozenset(self.offers),
            region=self.region,
            collects_data=self.collects_data,
            connect_timeout_s=self.connect_timeout_s,
            first_token_timeout_s=self.first_token_timeout_s,
            timeout_s=self.timeout_s,
        )
        return priced_at(endpoint, datetime.now(UTC) if now is None else now)

    def _table(self, first: PriceChange) -> tuple[PriceChange, ...]:
        """Empty where prices never change: then nobody has to look at a clock."""
        later = sorted(self.price_changes, key=lambda change: change.at)
        return (first, *(change.since(change.at) for change in later)) if later else ()


def _or(value: Decimal | None, otherwise: Decimal) -> Decimal:
    return otherwise if value is None else value
