"""What an upstream's refusal means: try another endpoint, or tell the client that its request is wrong.

Upstream bodies may quote the prompt or a key. Errors therefore carry the status and the error's code
only; the message goes out in one case, a 400-class answer to the very client whose request it is about.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from router_gateway.core.errors import UpstreamError, UpstreamRateLimited
from router_gateway.dispatch.stream import error_code
from router_gateway.dispatch.upstream import ContextLengthExceeded, UpstreamRefused

CLIENT_STATUSES = frozenset({400, 413, 422})
"""The request itself is wrong: no other endpoint would take it either."""

_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_CONTEXT_PHRASES = ("maximum context length", "exceeds the context", "context window")
_RETRY_AFTER_S_MAX = 3600.0
_MESSAGE_CHARS_MAX = 2_000


def refusal(endpoint: str, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError | None:
    """The error that a non-200 answer amounts to, or None when it is to be relayed to the client."""
    payload = _json(body)
    code = error_code(payload)
    told = f" ({code})" if code else ""
    if status in CLIENT_STATUSES:
        if code in _CONTEXT_CODES or any(phrase in _message(payload).lower() for phrase in _CONTEXT_PHRASES):
            return ContextLengthExceeded(f"endpoint {endpoint}: the request exceeds its context length")
        if isinstance(payload, dict):
            return None
    if status == 429:
        return UpstreamRateLimited(f"endpoint {endpoint}: rate limited{told}", retry_after_s=retry_after_s(headers))
    message = f"endpoint {endpoint}: answered with status {status}{told}"
    return UpstreamRefused(message, upstream_status=status, retry_after_s=retry_after_s(headers))


def client_error(body: bytes, *, secret: str | None) -> bytes:
    """A 400-class body in OpenAI's shape, all four members present, `secret` blotted out."""
    payload = _json(body)
    error = payload.get("error") if isinstance(payload, dict) else None
    fields: dict[str, Any] = error if isinstance(error, dict) else {}
    message = _message(payload) or "the upstream rejected the request"
    param = fields.get("param")
    shaped = {
        "message": message[:_MESSAGE_CHARS_MAX],
        "type": fields["type"] if isinstance(fields.get("type"), str) else "invalid_request_error",
        "param": param if isinstance(param, str) else None,
        "code": error_code({"error": {"code": fields.get("code")}}),
    }
    if secret:
        shaped = {
            name: value.replace(secret, "[redacted]") if isinstance(value, str) else value
            for name, value in shaped.items()
        }
    return json.dumps({"error": shaped}).encode()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms`, else `retry-after` (seconds or an HTTP date), within an hour."""
    for name, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name, "")) / per_second
        except ValueError:
            continue
        if math.isfinite(seconds):
            return min(max(seconds, 0.0), _RETRY_AFTER_S_MAX)
    at = _date(headers.get("retry-after"))
    if at is None:
        return None
    sent = _date(headers.get("date")) or datetime.now(UTC)  # by the upstream's own clock, where it tells it
    return min(max((at - sent).total_seconds(), 0.0), _RETRY_AFTER_S_MAX)


def _date(value: str | None) -> datetime | None:
    try:
        at = parsedate_to_datetime(value or "")
    except (ValueError, IndexError, TypeError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _message(payload: object) -> str:
    """The message of an OpenAI-shaped error, or of the flat shapes some servers use."""
    if not isinstance(payload, dict):
        return ""
    error = payload.get("error")
    candidates = (error.get("message") if isinstance(error, dict) else error, payload.get("message"))
    return next((text for text in candidates if isinstance(text, str)), "")
