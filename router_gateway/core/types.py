"""The nouns of the gateway. All are frozen, slotted and built by keyword only.

Letters in shapes: Q queries, E endpoints, N observations, d embedding width. Units end a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Literal, TypeAlias
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from router_gateway.core.errors import BadScores, SnapshotMismatch
from router_gateway.core.prices import PriceChange

if TYPE_CHECKING:
    from router_gateway.core.protocols import Policy

Floats: TypeAlias = NDArray[np.floating]
Ints: TypeAlias = NDArray[np.integer]
Bools: TypeAlias = NDArray[np.bool_]

WireProtocol = Literal["openai", "litellm"]
FeedbackSource = Literal["user", "judge", "label", "verifier", "implicit"]
Reason = Literal[
    "scored",                # the rule's most probable endpoint, drawn
    "explored",              # drawn, but not the most probable one
    "held:tool_state",       # inside a tool loop: stays with the endpoint that asked for the tool
    "gate:modality",         # capabilities left a single endpoint
    "guard:low_evidence",    # evidence too thin to leave the default endpoint
    "fallback:context",      # context length left a single endpoint
    "fallback:error",        # routing failed or was late: the default endpoint serves
    "pinned",                # the client named the endpoint
    "bypass",                # nothing to route on (no text)
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """What one request asks of routing; None or empty means the gateway's own setting.

    `worth_usd` is what a perfect answer is worth; `quality_floor` a lower bound on expected quality
    in [0, 1]; `max_cost_usd` an upper bound on the expected cost; `allowed` and `ignore` are globs over
    endpoint and model names; `explore` False takes the rule's most probable endpoint undrawn. `win_threshold`
    in [0, 1] takes the place of dial and rule: the strong endpoint where it wins as often (`routing.threshold`).
    """

    worth_usd: float | None = None
    quality_floor: float | None = None
    max_cost_usd: float | None = None
    allowed: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    region: str | None = None
    deny_data_collection: bool = False
    explore: bool = True
    win_threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One request as routing sees it.

    `text` is what is embedded (the conversation's newest user turn), `earlier` are the turns before it, oldest
    first, where the policy reads them; `tokens_input` counts the whole request; `needs` are capabilities such
    as "tools", "json", "vision"; `tenant_allows` are globs (empty: everything); `pinned` names the
    endpoint the client chose; `held` the one a tool loop must return to; `route` is what a route model said.
    """

    id: UUID
    text: str
    tokens_input: int
    tokens_output_max: int | None = None
    needs: frozenset[str] = frozenset()
    tenant: str = "default"
    tenant_allows: tuple[str, ...] = ()
    session: str | None = None
    pinned: str | None = None
    held: str | None = None
    earlier: tuple[str, ...] = ()
    route: str | None = None
    preferences: Preferences = field(default_factory=Preferences)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """A batch of queries as a policy sees it: never prices, never who asks.

    text : Q strings ("" where the ledger keeps no text)
    embedding : float32 (Q, d), rows of unit length in `space`
    tokens_input : int64 (Q,)
    space : name of the embedding space; vectors of two spaces never meet
    earlier : float32 (Q, T, d), what the users said before, oldest first; rows of zeros ahead of those of a shorter
        conversation. None where nobody said anything before, or the policy reads no conversations
    routes : Q names of what a route model said, each None where it said nothing; None where none was asked
    """

    text: tuple[str, ...]
    embedding: Floats
    tokens_input: Ints
    space: str
    earlier: Floats | None = None
    routes: tuple[str | None, ...] | None = None

    def __len__(self) -> int:
        return len(self.text)

    def take(self, rows: Ints | slice) -> Queries:
        """The named rows, in that order."""
        positions = np.arange(len(self))[rows]
        return Queries(
            text=tuple(self.text[i] for i in positions),
            embedding=self.embedding[positions],
            tokens_input=self.tokens_input[positions],
            space=self.space,
            earlier=None if self.earlier is None else self.earlier[positions],
            routes=None if self.routes is None else tuple(self.routes[i] for i in positions),
        )

    def expect(self, *, space: str, width: int) -> None:
        """Raise SnapshotMismatch unless the vectors are of this space and width."""
        if self.space != space:
            raise SnapshotMismatch(
                f"learned in embedding space {space!r}, asked in {self.space!r}",
                hint="fit the policy again after changing the embedder",
            )
        if self.embedding.ndim != 2 or self.embedding.shape[1] != width:
            raise SnapshotMismatch(f"learned on vectors of width {width}, asked with shape {self.embedding.shape}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One LLM behind one provider or URL. Prices in USD per million tokens; timeouts in seconds.

    `protocol` "openai" forwards the body as it is to `base_url`; "litellm" translates for a provider
    that speaks something else (`model` then carries litellm's prefix, as in "anthropic/claude-...").
    `price_changes` is the dated table, oldest first, empty where prices never change (`core.prices`).
    """

    name: str
    model: str
    protocol: WireProtocol = "openai"
    base_url: str | None = None
    price_input_usd_per_mtok: Decimal
    price_output_usd_per_mtok: Decimal
    price_cached_input_usd_per_mtok: Decimal
    price_cache_write_usd_per_mtok: Decimal
    price_changes: tuple[PriceChange, ...] = ()
    context_tokens_max: int
    offers: frozenset[str] = frozenset()
    provider: str = "openai"
    region: str | None = None
    collects_data: bool = False
    connect_timeout_s: float = 5.0
    first_token_timeout_s: float = 60.0
    timeout_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A policy's estimate for a batch.

    endpoints : E names, the columns
    quality : float32 (Q, E) in [0, 1], expected quality of the answer
    stddev : float32 (Q, E) >= 0, doubt about that expectation (not the noise of one answer)
    """

    endpoints: tuple[str, ...]
    quality: Floats
    stddev: Floats

    def check(self, queries: int) -> None:
        """Raise BadScores unless shapes, ranges and finiteness hold."""
        expected = (queries, len(self.endpoints))
        for name, array in (("quality", self.quality), ("stddev", self.stddev)):
            if array.shape != expected:
                raise BadScores(f"{name} has shape {array.shape}, expected {expected}")
            low, high = float(array.min(initial=0.0)), float(array.max(initial=0.0))  # NaN where anything is NaN
            if not (isfinite(low) and isfinite(high)):
                raise BadScores(f"{name} is not finite")
            if name == "quality" and (low < 0 or high > 1):
                raise BadScores("quality leaves [0, 1]")
            if name == "stddev" and low < 0:
                raise BadScores("stddev is negative")

    def align(self, endpoints: Sequence[str], *, unseen_quality: float = 0.5, unseen_stddev: float = 0.5) -> Scores:
        """The same scores with columns `endpoints`; an endpoint the policy has never seen gets the prior."""
        if tuple(endpoints) == self.endpoints:
            return self
        column = {name: i for i, name in enumerate(self.endpoints)}
        quality = np.full((len(self.quality), len(endpoints)), unseen_quality, dtype=np.float32)
        stddev = np.full_like(quality, unseen_stddev)
        for j, name in enumerate(endpoints):
            if name in column:
                quality[:, j] = self.quality[:, column[name]]
                stddev[:, j] = self.stddev[:, column[name]]
        return Scores(endpoints=tuple(endpoints), quality=quality, stddev=stddev)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A past query near a new one: its place in the policy's memory, cosine, and quality by endpoint observed."""

    row: int
    cosine: float
    quality: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPolicy:
    """A fitted policy with the name and version that decisions carry ("knn@3")."""

    name: str
    version: int
    policy: Policy

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One routing decision, complete enough to be recomputed and to be learned from.

    `order` are endpoint names, best first; `propensity` is the probability with which the rule chose
    `endpoint`, 0 when routing declined (pins, fallbacks); the tuples of E floats follow `endpoints`.

    `candidate` is the candidate of docs/lifecycle.md that decided, None the configured policy. While one is tried
    on a share of the traffic, rows of both sides name it as `experiment`, with their side's `arm_share` of the
    traffic and the `arm_unit` that was hashed to assign them. `propensity` is always the rule's own, given the side.
    """

    query_id: UUID
    at: datetime
    endpoint: str
    order: tuple[str, ...]
    propensity: float
    endpoints: tuple[str, ...] = ()
    quality: tuple[float, ...] = ()
    stddev: tuple[float, ...] = ()
    cost_usd: tuple[float, ...] = ()
    probability: tuple[float, ...] = ()
    eligible: tuple[bool, ...] = ()
    policy: str = "none"
    rule: str = "none"
    worth_usd: float
    embedding_space: str = "none"
    reason: Reason
    detail: str = ""
    candidate: str | None = None
    experiment: str | None = None
    arm_share: float | None = None
    arm_unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one call in five disjoint classes.

    `tokens_input` excludes cached reads and cache writes; `tokens_output` excludes reasoning.
    """

    tokens_input: int = 0
    tokens_cached_input: int = 0
    tokens_cache_write: int = 0
    tokens_output: int = 0
    tokens_reasoning: int = 0

    @property
    def tokens_prompt(self) -> int:
        """All tokens sent, however they were billed."""
        return self.tokens_input + self.tokens_cached_input + self.tokens_cache_write

    @property
    def tokens_completion(self) -> int:
        """All tokens generated, reasoning included."""
        return self.tokens_output + self.tokens_reasoning


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at one endpoint. `status` is the upstream's HTTP status, 0 when none came.

    `usage` is None when the upstream reported none (cost is then an estimate: `cost_estimated`).
    `cost_nusd` is computed from our price table; `provider_cost_nusd` is what the provider itself said, or None.
    `first_byte_ms` and `latency_ms` count from the moment of sending; None when it never came.
    """

    query_id: UUID
    number: int
    at: datetime
    endpoint: str
    status: int
    usage: Usage | None = None
    cost_nusd: int = 0
    cost_estimated: bool = False
    provider_cost_nusd: int | None = None
    first_byte_ms: float | None = None
    latency_ms: float
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """Quality of one answer in [0, 1], said later and by somebody. `id` makes repeats harmless."""

    id: UUID
    query_id: UUID
    at: datetime
    quality: float
    source: FeedbackSource
    tenant: str = "default"
    turn: int | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Of two endpoints' answers to one query the better one, said by somebody. `id` makes repeats harmless."""

    id: UUID
    query_id: UUID
    at: datetime
    better: str
    worse: str
    source: FeedbackSource
    tenant: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """A Feedback or Comparison, by its `id`, is taken back: it counts as if it had never been said."""

    id: UUID
    at: datetime
    tenant: str = "default"
