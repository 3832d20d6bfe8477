"""A big ledger, made by the database itself: a million rows a minute rather than an hour."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from uuid import UUID

from alembic import command
from sqlalchemy import Engine, func, select, text

from router_gateway.ledger.engine import alembic_config
from router_gateway.ledger.tables import decisions

_DAYS = 90
_ENDPOINTS, _TENANTS, _SESSIONS = 6, 40, 50_000
_RATED_EVERY = 20
_FALLBACK_EVERY = 50
_OPEN_EVERY = 100_000
_CHUNK = 250_000
_HASTE = {
    "sqlite": ("PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF", "PRAGMA cache_size=-1000000"),
    "postgresql": ("SET synchronous_commit=off", "SET work_mem='256MB'"),
}
_LISTS = "[0.5,0.6,0.7,0.4,0.3,0.2]"
_NAMES = '["endpoint-0","endpoint-1","endpoint-2","endpoint-3","endpoint-4","endpoint-5"]'


def query_id(number: int) -> UUID:
    """The id of a request by its number; ids ascend with time, as the gateway's do."""
    return UUID(int=number)


def fill(engine: Engine, requests: int, *, vector_bytes: int = 640) -> datetime:
    """Insert so many requests of the last 90 days, oldest first; the instant of the newest."""
    until = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
    step_s = _DAYS * 86_400 / requests
    _hasten(engine)
    writing = engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
    for start in range(0, requests, _CHUNK):
        values = {
            "start": start,
            "end": min(start + _CHUNK, requests),
            "step_s": step_s,
            "oldest": (until - timedelta(days=_DAYS)).replace(tzinfo=None).isoformat(sep=" "),
            "vector": b"\x01" * vector_bytes,
        }
        with writing.begin() as connection:
            for statement in _SQLITE if engine.dialect.name == "sqlite" else _POSTGRES:
                used = {name: value for name, value in values.items() if f":{name}" in statement}
                connection.execute(text(statement), used)
        print(f"  {values['end']:,} of {requests:,} requests", end="\r", file=sys.stderr, flush=True)
    with writing.begin() as connection:
        for statement in _TOTALS[engine.dialect.name]:
            connection.execute(text(statement))
    command.downgrade(alembic_config(engine), "0010")
    command.upgrade(alembic_config(engine), "head")  # which adds up the hours
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()  # what comes next has the product's own settings
    return until


def newest(engine: Engine) -> datetime | None:
    """The instant of the newest request; None of an empty ledger."""
    with engine.connect() as connection:
        found: datetime | None = connection.execute(select(func.max(decisions.c.at))).scalar_one()
    return found


def _hasten(engine: Engine) -> None:
    """Settings of the one connection that fills: nothing here has to survive a power cut."""
    connection = engine.raw_connection()
    for setting in _HASTE[engine.dialect.name]:
        connection.cursor().execute(setting)
    connection.commit()
    connection.close()


def bytes_of(engine: Engine) -> int:
    if engine.dialect.name == "sqlite":
        pages = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    else:
        pages = "SELECT pg_database_size(current_database())"
    with engine.connect() as connection:
        return int(connection.execute(text(pages)).scalar_one())


_DECISION = f"""INSERT INTO decisions (query_id, at, tenant, session, requested_model, endpoint, "order", propensity,
 endpoints, quality, stddev, cost_usd, probability, eligible, policy, rule, worth_usd, embedding_space, embedding,
 tokens_input, reason, detail, expected_nusd)
SELECT {{id}}, {{at}}, 'tenant-' || (i % {_TENANTS}), 'session-' || (i % {_SESSIONS}), 'auto',
 'endpoint-' || (i % {_ENDPOINTS}), '{_NAMES}', 0.5, '{_NAMES}', '{_LISTS}', '{_LISTS}', '{_LISTS}', '{_LISTS}',
 '[true,true,true,true,true,true]', 'knn@1', 'greedy', 0.02, 'static', :vector, 100, 'scored', '', 1000000
FROM {{numbers}}"""

_ATTEMPT = f"""INSERT INTO attempts (query_id, number, at, endpoint, status, tokens_input, tokens_cached_input,
 tokens_cache_write, tokens_output, tokens_reasoning, cost_nusd, cost_estimated, first_byte_ms, latency_ms)
SELECT {{id}}, 1, {{at}}, 'endpoint-' || (i % {_ENDPOINTS}), CASE WHEN i % {_FALLBACK_EVERY} = 0 THEN 503 ELSE 200 END,
 100, 0, 0, 200 + i % 300, 0, 1000000 + i % 7919, {{no}}, 100.0, 400.0 + i % 4001
FROM {{numbers}} WHERE i % {_OPEN_EVERY} <> 1"""

_FALLBACK = f"""INSERT INTO attempts (query_id, number, at, endpoint, status, tokens_input, tokens_cached_input,
 tokens_cache_write, tokens_output, tokens_reasoning, cost_nusd, cost_estimated, first_byte_ms, latency_ms)
SELECT {{id}}, 2, {{at}}, 'endpoint-' || ((i + 1) % {_ENDPOINTS}), 200, 100, 0, 0, 200, 0, 1000000, {{no}}, 100.0, 800.0
FROM {{numbers}} WHERE i % {_FALLBACK_EVERY} = 0"""

_FEEDBACK = f"""INSERT INTO feedback (id, query_id, at, quality, source, tenant)
SELECT {{id}}, {{id}}, {{at}}, (i % 11) / 10.0, 'user', 'tenant-' || (i % {_TENANTS})
FROM {{numbers}} WHERE i % {_RATED_EVERY} = 0"""

_ALL = (_DECISION, _ATTEMPT, _FALLBACK, _FEEDBACK)


def _with(**words: str) -> tuple[str, ...]:
    return tuple(statement.format(**words) for statement in _ALL)


_SQLITE = _with(
    id="printf('%032x', i)",
    at="strftime('%Y-%m-%d %H:%M:%f', julianday(:oldest) + i * :step_s / 86400.0) || '000'",
    no="0",
    numbers="(WITH RECURSIVE n(i) AS (SELECT :start UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :end) SELECT i FROM n)",
)
_POSTGRES = _with(
    id="lpad(to_hex(i), 32, '0')::uuid",
    at="(CAST(:oldest AS timestamp) AT TIME ZONE 'UTC') + i * :step_s * interval '1 second'",
    no="false",
    numbers="generate_series(CAST(:start AS bigint), CAST(:end AS bigint) - 1) AS n(i)",
)

_ADD_UP = """INSERT INTO daily_totals SELECT {day}, a.endpoint, d.tenant,
 SUM(CASE WHEN a.number = 1 THEN 1 ELSE 0 END), COUNT(*), SUM(CASE WHEN a.status <> 200 THEN 1 ELSE 0 END), 0, 0,
 SUM(a.tokens_input), 0, 0, SUM(a.tokens_output), 0, SUM(a.cost_nusd), 0, 0
FROM attempts a JOIN decisions d ON d.query_id = a.query_id GROUP BY 1, 2, 3"""
_OPEN = """INSERT INTO open_calls SELECT query_id, at, endpoint, tenant, expected_nusd FROM decisions d
WHERE NOT EXISTS (SELECT 1 FROM attempts a WHERE a.query_id = d.query_id)"""
_TOTALS = {
    "sqlite": (_ADD_UP.format(day="substr(a.at, 1, 10)"), _OPEN),
    "postgresql": (_ADD_UP.format(day="to_char(a.at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"), _OPEN),
}
