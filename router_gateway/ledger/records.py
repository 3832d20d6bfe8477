"""Journal records: what a request leaves behind, in the form in which a database takes it.

A record is `{"table": ..., "layout": ..., "row": {column: value}}`, its columns in the table's order; `layout` names
them, so that the writer (layouts.py, inserts.py) knows a row without parsing it. A row is plain JSON: ids are 32 hex
digits, instants UTC to the microsecond, columns of JSON the text that they will hold, embeddings base64 of float16,
little endian. Text is made storable everywhere before it is written (PostgreSQL takes no NUL, UTF-8 no lone
surrogate) and cut to bounds.
"""

from __future__ import annotations

import binascii
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from router_gateway.core.judgement import Judgement
from router_gateway.core.types import Attempt, Comparison, Decision, Feedback, Floats, Query, Revocation, Usage
from router_gateway.ledger import tables

Record = dict[str, Any]
Row = dict[str, Any]

NAME_CHARS_MAX = 1_000
TEXT_CHARS_MAX = 65_536
_COMMENT_CHARS_MAX = 10_000
_REPLACEMENT = "\ufffd"
JOURNALLED = (
    tables.decisions,
    tables.attempts,
    tables.feedback,
    tables.comparisons,
    tables.judgements,
    tables.feedback_revocations,
)
COLUMNS = {table.name: tuple(str(c.name) for c in table.columns if c.name != "seq") for table in JOURNALLED}
"""By table: what the journal brings, in order; the database numbers the rows itself."""
LAYOUTS = {name: f"{zlib.crc32(','.join(columns).encode()):08x}" for name, columns in COLUMNS.items()}
"""By table: these columns in this order, in eight hex digits."""
_HALF = np.dtype("<f2")
_FLOAT_LISTS = ("quality", "stddev", "cost_usd", "probability")
_USAGE = tuple(field.name for field in fields(Usage))


def decision_record(
    query: Query,
    decision: Decision,
    *,
    requested_model: str,
    embedding: Floats | None,
    store_text: bool,
    expected_nusd: int | None = None,
) -> Record:
    """`embedding` is float (d,) or (1, d). The text goes in only with `store_text`, its tail when it is long.

    `expected_nusd` is what the call is expected to cost at the endpoint chosen.
    """
    worth_usd = decision.worth_usd
    row: Row = {
        "query_id": decision.query_id.hex,
        "at": instant(decision.at),
        "tenant": _clean(query.tenant),
        "session": None if query.session is None else _clean(query.session),
        "requested_model": _clean(requested_model),
        "endpoint": _clean(decision.endpoint),
        "order": _json_names(decision.order),
        "propensity": float(decision.propensity),
        "endpoints": _json_names(decision.endpoints),
        "quality": _json_floats(decision.quality),
        "stddev": _json_floats(decision.stddev),
        "cost_usd": _json_floats(decision.cost_usd),
        "probability": _json_floats(decision.probability),
        "eligible": _json_flags(decision.eligible),
        "policy": _clean(decision.policy),
        "rule": _clean(decision.rule),
        # A dial at infinity: quality alone counts. JSON has none; both databases read the word.
        "worth_usd": float(worth_usd) if math.isfinite(worth_usd) else str(float(worth_usd)),
        "embedding_space": _clean(decision.embedding_space),
        "embedding": None if embedding is None else pack(embedding),
        "tokens_input": int(query.tokens_input),
        "reason": decision.reason,
        "detail": _clean(decision.detail),
        "text": _clean(query.text[-TEXT_CHARS_MAX:], TEXT_CHARS_MAX) if store_text else None,
        "expected_nusd": expected_nusd,
        "candidate": decision.candidate,
        "experiment": decision.experiment,
        "arm_share": decision.arm_share,
        "arm_unit": decision.arm_unit,
    }
    return _record("decisions", row)


def attempt_record(attempt: Attempt) -> Record:
    """Five null token columns when the upstream reported no usage."""
    usage = attempt.usage
    row: Row = {
        "query_id": attempt.query_id.hex,
        "number": attempt.number,
        "at": instant(attempt.at),
        "endpoint": _clean(attempt.endpoint),
        "status": attempt.status,
        "tokens_input": None if usage is None else usage.tokens_input,
        "tokens_cached_input": None if usage is None else usage.tokens_cached_input,
        "tokens_cache_write": None if usage is None else usage.tokens_cache_write,
        "tokens_output": None if usage is None else usage.tokens_output,
        "tokens_reasoning": None if usage is None else usage.tokens_reasoning,
        "cost_nusd": attempt.cost_nusd,
        "cost_estimated": attempt.cost_estimated,
        "provider_cost_nusd": attempt.provider_cost_nusd,
        "first_byte_ms": attempt.first_byte_ms,
        "latency_ms": attempt.latency_ms,
        "error": None if attempt.error is None else _clean(attempt.error),
    }
    return _record("attempts", row)


def feedback_record(feedback: Feedback) -> Record:
    """The comment is cut at 10,000 characters."""
    row: Row = {
        "id": feedback.id.hex,
        "query_id": feedback.query_id.hex,
        "at": instant(feedback.at),
        "quality": float(feedback.quality),
        "source": feedback.source,
        "tenant": _clean(feedback.tenant),
        "turn": feedback.turn,
        "comment": None if feedback.comment is None else _clean(feedback.comment, _COMMENT_CHARS_MAX),
    }
    return _record("feedback", row)


def comparison_record(comparison: Comparison) -> Record:
    """The comparison as it is."""
    row: Row = {
        "id": comparison.id.hex,
        "query_id": comparison.query_id.hex,
        "at": instant(comparison.at),
        "better": _clean(comparison.better),
        "worse": _clean(comparison.worse),
        "source": comparison.source,
        "tenant": _clean(comparison.tenant),
    }
    return _record("comparisons", row)


def judgement_record(judgement: Judgement) -> Record:
    """The judgement as it is."""
    row: Row = {
        "id": judgement.id.hex,
        "query_id": judgement.query_id.hex,
        "call_id": judgement.call_id.hex,
        "at": instant(judgement.at),
        "judge": _clean(judgement.judge),
        "endpoint": _clean(judgement.endpoint),
        "other": None if judgement.other is None else _clean(judgement.other),
        "score": float(judgement.score),
        "chars": judgement.chars,
        "other_chars": judgement.other_chars,
        "tenant": _clean(judgement.tenant),
    }
    return _record("judgements", row)


def revocation_record(revocation: Revocation) -> Record:
    """The revocation as it is."""
    row: Row = {
        "id": revocation.id.hex,
        "at": instant(revocation.at),
        "tenant": _clean(revocation.tenant),
    }
    return _record("feedback_revocations", row)


def _record(table: str, row: Row) -> Record:
    return {"table": table, "layout": LAYOUTS[table], "row": row}


def decision_of(row: Mapping[Any, Any]) -> Decision:
    """The Decision that a row of `decisions` holds."""
    values = {field.name: row[field.name] for field in fields(Decision)}
    for name in _FLOAT_LISTS:
        values[name] = tuple(float(value) for value in values[name])
    for name in ("order", "endpoints", "eligible"):
        values[name] = tuple(values[name])
    return Decision(**values)


def attempt_of(row: Mapping[Any, Any]) -> Attempt:
    """The Attempt that a row of `attempts` holds."""
    usage = None if row["tokens_input"] is None else Usage(**{name: row[name] for name in _USAGE})
    values = {field.name: row[field.name] for field in fields(Attempt) if field.name != "usage"}
    return Attempt(**values, usage=usage)


def feedback_of(row: Mapping[Any, Any]) -> Feedback:
    """The Feedback that a row of `feedback` holds."""
    return Feedback(**{field.name: row[field.name] for field in fields(Feedback)})


def pack(embedding: Floats) -> str:
    """A vector of d floats as base64 of float16: a unit vector keeps its direction to about 1e-3."""
    return binascii.b2a_base64(embedding.astype(_HALF, order="C").tobytes(), newline=False).decode("ascii")


def unpack(blob: bytes) -> Floats:
    """float32 (d,) from the column's float16 bytes."""
    return np.frombuffer(blob, dtype="<f2").astype(np.float32)


def _clean(text: str, chars_max: int = NAME_CHARS_MAX) -> str:
    text = text[:chars_max]
    if text.isascii() and "\0" not in text:
        return text
    return "".join(_REPLACEMENT if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def instant(at: datetime) -> str:
    """UTC with six digits of a second. Without a timezone nobody knows the instant, and no database takes this text."""
    if at.tzinfo is None:
        return f"{at.isoformat()} without a timezone"
    return (at if at.tzinfo is UTC else at.astimezone(UTC)).isoformat(" ", "microseconds")


@lru_cache(maxsize=1024)
def _json_names(names: tuple[str, ...]) -> str:
    """A pool has few names, and few orders of them."""
    return orjson.dumps([*map(_clean, names)]).decode()


@lru_cache(maxsize=1024)
def _json_flags(flags: tuple[bool, ...]) -> str:
    return orjson.dumps([*map(bool, flags)]).decode()


def _json_floats(values: Sequence[float]) -> str:
    """JSON has no infinity and no NaN; as strings, `float` reads them back."""
    text = orjson.dumps(values)
    if b"null" in text:
        text = orjson.dumps([value if math.isfinite(value) else repr(value) for value in values])
    return text.decode()
