"""The tables, as SQLAlchemy Core sees them. `migrations/` creates them; a test holds the two equal.

All but budgets and totals are append-only: a correction is a later row. Instants are UTC, money is integer
nano-dollars, milliseconds are doubles. There are deliberately no foreign keys between decisions, attempts and
feedback: the journal replays rows in any order and from several processes (docs/adr/0009).
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    false,
    text,
)

from router_gateway.ledger import lifecycle_tables as lifecycle_tables  # of the same metadata
from router_gateway.ledger import onboarding_tables as onboarding_tables
from router_gateway.ledger.columns import Sequence, UtcDateTime
from router_gateway.ledger.columns import metadata as metadata

decisions = Table(
    "decisions",
    metadata,
    Column("query_id", Uuid, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("tenant", String, nullable=False),
    Column("session", String),
    Column("requested_model", String, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("order", JSON, nullable=False),
    Column("propensity", Double, nullable=False),
    Column("endpoints", JSON, nullable=False),
    Column("quality", JSON, nullable=False),
    Column("stddev", JSON, nullable=False),
    Column("cost_usd", JSON, nullable=False),
    Column("probability", JSON, nullable=False),
    Column("eligible", JSON, nullable=False),
    Column("policy", String, nullable=False),
    Column("rule", String, nullable=False),
    Column("worth_usd", Double, nullable=False),
    Column("embedding_space", String, nullable=False),
    Column("embedding", LargeBinary),  # float16, little endian, (d,)
    Column("tokens_input", BigInteger, nullable=False),
    Column("reason", String, nullable=False),
    Column("detail", String, nullable=False),
    Column("text", String),  # only when `ledger.store_text`
    Column("expected_nusd", BigInteger),  # of the call at `endpoint`: what a call without an outcome is priced at
    Column("candidate", String),  # that decided; null = the configured policy
    Column("experiment", String),  # the candidate that is tried; the row is of its canary or of its control
    Column("arm_share", Double),
    Column("arm_unit", String),
    Index(None, "at"),
    Index(None, "tenant", "at"),
    Index(None, "session", "at"),
    Index(
        "ix_decisions_experiment",
        "experiment",
        "at",
        sqlite_where=text("experiment IS NOT NULL"),
        postgresql_where=text("experiment IS NOT NULL"),
    ),
)

attempts = Table(
    "attempts",
    metadata,
    Column("query_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("status", Integer, nullable=False),
    # All five are null when the upstream reported no usage.
    Column("tokens_input", BigInteger),
    Column("tokens_cached_input", BigInteger),
    Column("tokens_cache_write", BigInteger),
    Column("tokens_output", BigInteger),
    Column("tokens_reasoning", BigInteger),
    Column("cost_nusd", BigInteger, nullable=False),
    Column("cost_estimated", Boolean, nullable=False),
    Column("provider_cost_nusd", BigInteger),  # as the provider says, where it does; never part of cost_nusd
    Column("first_byte_ms", Double),
    Column("latency_ms", Double, nullable=False),
    Column("error", String),
    CheckConstraint("number >= 1", name="number"),
    Index(None, "endpoint", "at"),
    Index(None, "at"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("seq", Sequence, primary_key=True),  # order of commit: the learner's watermark
    Column("id", Uuid, nullable=False),
    Column("query_id", Uuid, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("quality", Double, nullable=False),
    Column("source", String, nullable=False),
    Column("tenant", String, nullable=False),
    Column("turn", Integer),
    Column("comment", String),
    UniqueConstraint("id"),
    CheckConstraint("quality >= 0 AND quality <= 1", name="quality"),
    Index(None, "query_id"),
    Index(None, "at"),
    Index(None, "source", "seq"),
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("seq", Sequence, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("query_id", Uuid, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("better", String, nullable=False),  # endpoint names
    Column("worse", String, nullable=False),
    Column("source", String, nullable=False),
    Column("tenant", String, nullable=False),
    UniqueConstraint("id"),
    Index(None, "query_id"),
)

judgements = Table(
    "judgements",
    metadata,
    Column("id", Uuid, primary_key=True),  # of a score: that of its row of `feedback`
    Column("query_id", Uuid, nullable=False),
    Column("call_id", Uuid, nullable=False),  # the decision of the judge's own call
    Column("at", UtcDateTime, nullable=False),
    Column("judge", String, nullable=False),  # endpoint names
    Column("endpoint", String, nullable=False),
    Column("other", String),  # of a pair: whose answer was read second
    Column("score", Double, nullable=False),
    Column("chars", BigInteger, nullable=False),
    Column("other_chars", BigInteger),
    Column("tenant", String, nullable=False),
    CheckConstraint("score >= 0 AND score <= 1", name="score"),
    Index(None, "query_id"),
    Index(None, "at"),
)

feedback_revocations = Table(
    "feedback_revocations",
    metadata,
    Column("seq", Sequence, primary_key=True),
    Column("id", Uuid, nullable=False),  # of the row of `feedback` or `comparisons` that is taken back
    Column("at", UtcDateTime, nullable=False),
    Column("tenant", String, nullable=False),
    UniqueConstraint("id"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("until_s", Double, nullable=False),  # seconds since 1970 by the database's clock; changed in place
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("seq", Sequence, primary_key=True),
    Column("name", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("path", String, nullable=False),
    Column("embedding_space", String, nullable=False),
    Column("note", String, nullable=False),
    UniqueConstraint("name", "version"),
)

settings = Table(
    "settings",
    metadata,
    Column("seq", Sequence, primary_key=True),
    Column("base", BigInteger, nullable=False),  # the row it was saved over, 0 = none: of two that race, one is refused
    Column("at", UtcDateTime, nullable=False),
    Column("author", String, nullable=False),
    Column("note", String, nullable=False),
    Column("changes", JSON, nullable=False),  # what was asked; null lifts a setting
    Column("state", JSON, nullable=False),  # all that is saved from this row on
    Column("restores", BigInteger),  # the row whose state came back
    UniqueConstraint("base"),
)

admin_events = Table(
    "admin_events",
    metadata,
    Column("seq", Sequence, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("author", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("note", String, nullable=False),
    Column("detail", JSON, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("name", String, nullable=False),
    Column("tenant", String, nullable=False),
    Column("prefix", String, nullable=False),  # for display and `revoke`
    Column("sha256", String(64), nullable=False),  # hex; the key itself is nowhere
    Column("allows", JSON, nullable=False),
    Column("admin", Boolean, nullable=False, server_default=false()),
    Column("viewer", Boolean, nullable=False, server_default=false()),
    Column("expires_at", UtcDateTime),
    UniqueConstraint("sha256"),
)

api_key_revocations = Table(
    "api_key_revocations",
    metadata,
    Column("key_id", Uuid, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
)

# The writer keeps these three in the transaction that adds the rows above (totals.py).
daily_totals = Table(
    "daily_totals",
    metadata,
    Column("day", String(10), primary_key=True),  # of UTC: 2030-01-31
    Column("endpoint", String, primary_key=True),
    Column("tenant", String, primary_key=True),
    Column("requests", BigInteger, nullable=False),  # first attempts
    Column("attempts", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("estimated_attempts", BigInteger, nullable=False),
    Column("provider_attempts", BigInteger, nullable=False),
    Column("tokens_input", BigInteger, nullable=False),
    Column("tokens_cached_input", BigInteger, nullable=False),
    Column("tokens_cache_write", BigInteger, nullable=False),
    Column("tokens_output", BigInteger, nullable=False),
    Column("tokens_reasoning", BigInteger, nullable=False),
    Column("cost_nusd", BigInteger, nullable=False),
    Column("estimated_nusd", BigInteger, nullable=False),
    Column("provider_cost_nusd", BigInteger, nullable=False),
)

hourly_totals = Table(  # the same by hour, without the tenant and with latencies (hours.py)
    "hourly_totals",
    metadata,
    Column("hour", String(13), primary_key=True),  # of UTC: 2030-01-31T14
    Column("endpoint", String, primary_key=True),
    Column("requests", BigInteger, nullable=False),  # first attempts
    Column("attempts", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("answers", BigInteger, nullable=False),  # of status 200
    Column("tokens_prompt", BigInteger, nullable=False),
    Column("tokens_completion", BigInteger, nullable=False),
    Column("cost_nusd", BigInteger, nullable=False),
    Column("latency", LargeBinary, nullable=False),  # of the answers: counts by bucket, uint32, little endian
)

open_calls = Table(  # decisions without an attempt: under way, or cut off by the end of their process
    "open_calls",
    metadata,
    Column("query_id", Uuid, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("tenant", String, nullable=False),
    Column("expected_nusd", BigInteger),
    Index(None, "at"),
)

# A row here, seen by its own transaction alone, lets that transaction change append-only tables (retention.py).
retention = Table("retention", metadata, Column("job", String, primary_key=True))

# The three below change in place: they say what may still be spent, while the rows above say what was.
budgets = Table(
    "budgets",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("scope", String, nullable=False),  # gateway, tenant or key
    Column("subject", String, nullable=False),  # the tenant's name or the key's id; "" for the gateway
    Column("period", String, nullable=False),  # hour, day or month, of UTC
    Column("limit_nusd", BigInteger, nullable=False),
    UniqueConstraint("scope", "subject", "period"),
    CheckConstraint("limit_nusd >= 0", name="limit_nusd"),
)

budget_windows = Table(
    "budget_windows",
    metadata,
    Column("budget_id", Uuid, primary_key=True),
    Column("starts_at", UtcDateTime, primary_key=True),
    Column("reserved_nusd", BigInteger, nullable=False),  # of calls under way
    Column("spent_nusd", BigInteger, nullable=False),  # of calls that ended
    Index(None, "starts_at"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("query_id", Uuid, primary_key=True),
    Column("budget_id", Uuid, primary_key=True),
    Column("starts_at", UtcDateTime, nullable=False),  # the window that it counts in
    Column("amount_nusd", BigInteger, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("settled_nusd", BigInteger),  # only where it expired: what the attempts had cost by then
    Index(None, "expires_at"),
)
