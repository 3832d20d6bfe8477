"""The tables of candidates (docs/lifecycle.md); all but the shadow's decisions are append-only."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Double, Index, Integer, String, Table, UniqueConstraint, Uuid

from router_gateway.ledger.columns import Sequence, UtcDateTime, metadata

candidates = Table(
    "candidates",
    metadata,
    Column("name", String, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("policy", String, nullable=False),  # the live policy that it would replace
    Column("snapshot", String),  # "knn@3"; null = the policy of `base`
    Column("base", String),  # the candidate that was live when this one was drafted; null = the configured policy
    Column("changes", JSON, nullable=False),  # of dial, rule and guard
    Column("margins", JSON, nullable=False),
    Column("author", String, nullable=False),
    Column("note", String, nullable=False),
)

transitions = Table(
    "lifecycle_transitions",
    metadata,
    Column("seq", Sequence, primary_key=True),
    Column("policy", String, nullable=False),
    Column("number", Integer, nullable=False),  # 1.. within the policy: two that race for one cannot both be
    Column("candidate", String, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("before", String, nullable=False),
    Column("state", String, nullable=False),
    Column("share", Double),  # of the traffic, in a canary
    Column("author", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("note", String, nullable=False),
    Column("evidence", JSON(none_as_null=True)),
    UniqueConstraint("policy", "number"),
    Index(None, "candidate"),
)

shadow_decisions = Table(
    "shadow_decisions",
    metadata,
    Column("candidate", String, primary_key=True),
    Column("query_id", Uuid, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("policy", String, nullable=False),
    Column("endpoint", String),  # the five of the choice are null where the candidate failed
    Column("propensity", Double),
    Column("quality", Double),
    Column("cost_usd", Double),
    Column("probability_of_served", Double),  # that the candidate draws what was served
    Column("served", String, nullable=False),
    Column("served_quality", Double),  # as the live policy expected it
    Column("served_cost_usd", Double),
    Column("latency_ms", Double, nullable=False),
    Column("error", String),
    Index(None, "query_id"),
)
