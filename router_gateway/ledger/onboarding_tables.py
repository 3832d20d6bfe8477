"""The table of onboardings (docs/onboarding.md), append-only."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, Integer, String, Table, Uuid

from router_gateway.ledger.columns import UtcDateTime, metadata

onboarding_steps = Table(
    "onboarding_steps",
    metadata,
    Column("onboarding_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # 0 = what was asked for, -1 = to be stopped
    Column("at", UtcDateTime, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("state", String, nullable=False),
    Column("author", String, nullable=False),
    Column("found", JSON, nullable=False),
    Index(None, "at"),
)
