"""Journal records: plain JSON objects on the way in, database rows on the way out.

A record is `{"table": ..., "row": {column: value}}`. Text is made storable everywhere before it is
written (PostgreSQL takes no NUL, UTF-8 no lone surrogate) and cut to bounds; embeddings are float16,
little endian, base64.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import numpy as np

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
_COLUMNS = {table.name: frozenset(table.columns.keys()) - {"seq"} for table in JOURNALLED}
_OF_A_CANDIDATE = ("candidate", "experiment", "arm_share", "arm_unit")
_LATER_COLUMNS: Mapping[str, Row] = {
    "decisions": {"expected_nusd": None, **dict.fromkeys(_OF_A_CANDIDATE)},
    "attempts": {"provider_cost_nusd": None},
}
"""What a journal of an earlier version does not have: its rows are kept, though nobody knew these then.

Most decisions have nothing to do with a candidate; theirs are left out today as well."""
_MONEY = ("cost_nusd", "provider_cost_nusd", "expected_nusd")
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
    row: Row = {
        "query_id": str(decision.query_id),
        "at": decision.at.isoformat(),
        "tenant": _clean(query.tenant),
        "session": None if query.session is None else _clean(query.session),
        "requested_model": _clean(requested_model),
        "endpoint": _clean(decision.endpoint),
        "order": list(_clean_all(decision.order)),
        "endpoints": list(_clean_all(decision.endpoints)),
        "quality": _json_floats(decision.quality),
        "stddev": _json_floats(decision.stddev),
        "cost_usd": _json_floats(decision.cost_usd),
        "probability": _json_floats(decision.probability),
        "eligible": [bool(value) for value in decision.eligible],
        "propensity": float(decision.propensity),
        "worth_usd": _json_floats([decision.worth_usd])[0],  # a dial at infinity: quality alone counts
        "policy": _clean(decision.policy),
        "rule": _clean(decision.rule),
        "embedding_space": _clean(decision.embedding_space),
        "reason": decision.reason,
        "embedding": None if embedding is None else pack(embedding),
        "tokens_input": int(query.tokens_input),
        "detail": _clean(decision.detail),
        "expected_nusd": expected_nusd,
        "text": _clean(query.text[-TEXT_CHARS_MAX:], TEXT_CHARS_MAX) if store_text else None,
    }
    if decision.candidate is not None or decision.experiment is not None:
        row |= {name: getattr(decision, name) for name in _OF_A_CANDIDATE}
    return {"table": "decisions", "row": row}


def attempt_record(attempt: Attempt) -> Record:
    """Five null token columns when the upstream reported no usage."""
    row: Row = {
        "query_id": str(attempt.query_id),
        "number": attempt.number,
        "at": attempt.at.isoformat(),
        "endpoint": _clean(attempt.endpoint),
        "status": attempt.status,
        "cost_nusd": attempt.cost_nusd,
        "cost_estimated": attempt.cost_estimated,
        "provider_cost_nusd": attempt.provider_cost_nusd,
        "first_byte_ms": attempt.first_byte_ms,
        "latency_ms": attempt.latency_ms,
        "error": None if attempt.error is None else _clean(attempt.error),
    }
    for name in _USAGE:
        row[name] = None if attempt.usage is None else getattr(attempt.usage, name)
    return {"table": "attempts", "row": row}


def feedback_record(feedback: Feedback) -> Record:
    """The comment is cut at 10,000 characters."""
    row: Row = {
        "id": str(feedback.id),
        "query_id": str(feedback.query_id),
        "at": feedback.at.isoformat(),
        "quality": float(feedback.quality),
        "source": feedback.source,
        "tenant": _clean(feedback.tenant),
        "turn": feedback.turn,
        "comment": None if feedback.comment is None else _clean(feedback.comment, _COMMENT_CHARS_MAX),
    }
    return {"table": "feedback", "row": row}


def comparison_record(comparison: Comparison) -> Record:
    """The comparison as it is."""
    row: Row = {
        "id": str(comparison.id),
        "query_id": str(comparison.query_id),
        "at": comparison.at.isoformat(),
        "better": _clean(comparison.better),
        "worse": _clean(comparison.worse),
        "source": comparison.source,
        "tenant": _clean(comparison.tenant),
    }
    return {"table": "comparisons", "row": row}


def judgement_record(judgement: Judgement) -> Record:
    """The judgement as it is."""
    row: Row = {
        "id": str(judgement.id),
        "query_id": str(judgement.query_id),
        "call_id": str(judgement.call_id),
        "at": judgement.at.isoformat(),
        "judge": _clean(judgement.judge),
        "endpoint": _clean(judgement.endpoint),
        "other": None if judgement.other is None else _clean(judgement.other),
        "score": float(judgement.score),
        "chars": judgement.chars,
        "other_chars": judgement.other_chars,
        "tenant": _clean(judgement.tenant),
    }
    return {"table": "judgements", "row": row}


def revocation_record(revocation: Revocation) -> Record:
    """The revocation as it is."""
    row: Row = {
        "id": str(revocation.id),
        "at": revocation.at.isoformat(),
        "tenant": _clean(revocation.tenant),
    }
    return {"table": "feedback_revocations", "row": row}


def table_and_row(record: Mapping[str, Any]) -> tuple[str, Row]:
    """Table name and row of a record read back. Raises ValueError when it is not one of ours."""
    try:
        name, row = record["table"], dict(record["row"])
        row = _LATER_COLUMNS.get(name, {}) | row
        if row.keys() != _COLUMNS[name]:
            raise ValueError(f"columns of another version of {name}")
        for key in ("id", "query_id", "call_id"):
            if key in row:
                row[key] = UUID(row[key])
        row["at"] = datetime.fromisoformat(row["at"])
        if any(isinstance(row.get(name), float) for name in _MONEY):
            raise ValueError("a cost of more than 64 bits")
        if "worth_usd" in row:
            row["worth_usd"] = float(row["worth_usd"])
        if row.get("embedding") is not None:
            row["embedding"] = base64.b64decode(row["embedding"], validate=True)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a journal record: {type(error).__name__}") from None
    return name, row


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
    return base64.b64encode(np.ravel(embedding).astype("<f2").tobytes()).decode("ascii")


def unpack(blob: bytes) -> Floats:
    """float32 (d,) from the column's float16 bytes."""
    return np.frombuffer(blob, dtype="<f2").astype(np.float32)


def _clean(text: str, chars_max: int = NAME_CHARS_MAX) -> str:
    text = text[:chars_max]
    if text.isascii() and "\0" not in text:
        return text
    return "".join(_REPLACEMENT if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


@lru_cache(maxsize=1024)
def _clean_all(names: tuple[str, ...]) -> tuple[str, ...]:
    """A pool has few names, and few orders of them."""
    return tuple(map(_clean, names))


def _json_floats(values: Sequence[float]) -> list[float | str]:
    """JSON has no infinity and no NaN; as strings, `float` reads them back."""
    floats = [float(value) for value in values]
    if all(map(math.isfinite, floats)):
        return [*floats]
    return [value if math.isfinite(value) else repr(value) for value in floats]
