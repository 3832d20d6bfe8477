"""Every failure in OpenAI's error shape, with the headers that stop SDKs from retrying in vain."""

from __future__ import annotations

import json
import logging
import math
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from router_gateway.core.errors import (
    BudgetExceeded,
    GatewayError,
    LedgerFull,
    LedgerUnavailable,
    UpstreamError,
    UpstreamRateLimited,
)

log = logging.getLogger(__name__)

_STATUS_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
_RETRY_AFTER_S = {429: 1, 503: 5}  # where nothing better is known


def error_object(error: GatewayError) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}`; all four keys are always there."""
    message = error.message if error.hint is None else f"{error.message} ({error.hint})"
    return {"error": {"message": message, "type": error.type, "param": error.param, "code": error.code}}


def error_headers(error: GatewayError) -> dict[str, str]:
    """Retry advice: our own fallback chain has been walked already, so a plain retry only multiplies."""
    headers = {}
    if isinstance(error, UpstreamRateLimited) and error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    elif isinstance(error, UpstreamError | BudgetExceeded) and not isinstance(error, UpstreamRateLimited):
        headers["x-should-retry"] = "false"
    elif isinstance(error, LedgerFull | LedgerUnavailable):
        headers["x-should-retry"] = "true"  # nothing was sent to anybody
    if error.status in _RETRY_AFTER_S:
        headers.setdefault("retry-after", str(_RETRY_AFTER_S[error.status]))
    return headers


def error_response(error: GatewayError, headers: dict[str, str] | None = None) -> Response:
    """The response for a GatewayError."""
    return _response(error_object(error), error.status, {**(headers or {}), **error_headers(error)})


def install(app: FastAPI) -> None:
    """Register the handlers: FastAPI's own `{"detail": …}` must never leak. What nobody foresaw ends in api/edge.py."""
    app.add_exception_handler(GatewayError, gateway_error)
    app.add_exception_handler(HTTPException, _http_error)


def gateway_error(request: Request, error: Exception) -> Response:
    """The response for a GatewayError that a handler raised; what is our own fault is logged."""
    assert isinstance(error, GatewayError)
    if error.status >= 500 and not isinstance(error, UpstreamError):
        log.error("%s: %s", error.code, error.message)
    return error_response(error, request.state.headers)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _STATUS_CODES.get(error.status_code, "invalid_request")
    message = f"{request.method} {request.url.path}: {error.detail}"
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return _response(body, error.status_code, dict(error.headers or {}))


def _response(body: dict[str, Any], status: int, headers: dict[str, str]) -> Response:
    # ASCII: a message may quote a lone surrogate of the request, which UTF-8 cannot carry.
    return Response(json.dumps(body), status_code=status, headers=headers, media_type="application/json")
