"""Every failure in OpenAI's error shape, with the headers that stop SDKs from retrying in vain."""

from __future__ import annotations

import logging
import math
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router_gateway.core.errors import GatewayError, RequestError, UpstreamError, UpstreamRateLimited

log = logging.getLogger(__name__)

_STATUS_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}


def error_object(error: GatewayError) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}`; all four keys are always there."""
    message = error.message if error.hint is None else f"{error.message} ({error.hint})"
    return {"error": {"message": message, "type": error.type, "param": error.param, "code": error.code}}


def error_headers(error: GatewayError) -> dict[str, str]:
    """Retry advice: our own fallback chain has been walked already, so a plain retry only multiplies."""
    headers = {}
    if isinstance(error, UpstreamRateLimited) and error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    elif isinstance(error, UpstreamError):
        headers["x-should-retry"] = "false"
    if error.status == 503:
        headers.setdefault("retry-after", "5")
    return headers


def error_response(error: GatewayError, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response for a GatewayError."""
    return JSONResponse(
        error_object(error), status_code=error.status, headers={**(headers or {}), **error_headers(error)}
    )


def install(app: FastAPI) -> None:
    """Register the handlers: FastAPI's own `{"detail": …}` and 422 must never leak."""
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


def _gateway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    if error.status >= 500 and not isinstance(error, UpstreamError):
        log.error("%s: %s", error.code, error.message)
    return error_response(error, getattr(request.state, "headers", None))


def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return error_response(RequestError("the body is not valid JSON"))
    path = ".".join(where) or None
    return error_response(RequestError(f"`{path}`: {first['msg']}" if path else first["msg"], param=path))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _STATUS_CODES.get(error.status_code, "invalid_request")
    message = f"{request.method} {request.url.path}: {error.detail}"
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


def _unexpected(request: Request, error: Exception) -> Response:
    # Starlette logs the traceback itself; the client learns nothing of our insides.
    return error_response(GatewayError("the gateway failed on this request; it has been logged"))
