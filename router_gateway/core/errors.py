"""Every error the gateway raises on purpose.

GatewayError
├── ConfigError              the configuration is wrong; lists every mistake at once
├── DataError                rows of a data file are wrong; lists every bad row at once
├── RequestError       400   the client's request is wrong; `param` names the field
│   ├── AuthError      401   no key, or a key we do not know
│   ├── AdminOnly      403   the key does not open the admin API
│   ├── ModelNotAllowed 403  the key may not use this model
│   ├── NotFound       404   no such model, policy or decision
│   ├── Conflict       409   what is asked does not fit what is there now
│   ├── BodyTooLarge   413   the body exceeds `server.body_bytes_max`
│   └── BudgetExceeded 402   a budget of the key, its tenant or the gateway is spent
├── NoEligibleEndpoint 400   nothing in the pool can take this request
├── Overloaded         503   more is under way than there may be at once
├── LedgerFull         503   the journal is at its bound; no new paid call is accepted
├── LedgerUnavailable  503   the ledger's database cannot be read now
├── UpstreamError      502   an endpoint failed
│   ├── UpstreamTimeout 504
│   ├── UpstreamRateLimited 429
│   └── AllEndpointsFailed 503  names each endpoint tried
└── PolicyError        500
    ├── UnknownPolicy, DuplicatePolicy, BadParameters
    └── NotFitted, BadScores, SnapshotMismatch

Each carries `code` (stable, for programs), `status` (HTTP), `type` (the word of OpenAI's error
objects), `param` (the field, or None) and `hint` (what to do, or None).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from router_gateway.core.types import Decision


class GatewayError(Exception):
    """Base of all; `str(error)` is the message, safe to show to a client."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    decision: Decision | None = None  # the routing decision under which it happened, if there was one
    attempts: int = 0  # endpoints that were tried by then

    def __init__(self, message: str, *, param: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.hint = hint


class ConfigError(GatewayError):
    """All mistakes of a configuration, each as `path: what is wrong`."""

    code = "invalid_config"

    def __init__(self, problems: Sequence[str], *, hint: str | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems), hint=hint)


class DataError(GatewayError):
    """All bad rows of a data file, each as `file:line: what is wrong`; nothing was loaded."""

    code = "invalid_data"

    def __init__(self, problems: Sequence[str], *, hint: str | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems), hint=hint)


class RequestError(GatewayError):
    """The client's request is wrong."""

    code = "invalid_request"
    status = 400
    type = "invalid_request_error"

    def __init__(
        self, message: str, *, param: str | None = None, hint: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, param=param, hint=hint)
        if code is not None:
            self.code = code  # type: ignore[misc]  # a narrower code for one message


class AuthError(RequestError):
    """No API key, or one we do not know."""

    code = "invalid_api_key"
    status = 401


class BudgetExceeded(RequestError):
    """A budget of the caller is spent. 402, because SDKs retry a 429."""

    code = "budget_exceeded"
    status = 402
    type = "insufficient_quota"


class ModelNotAllowed(RequestError):
    """The key may not use the model it named."""

    code = "model_not_allowed"
    status = 403


class AdminOnly(RequestError):
    """The key is good, but it does not open the admin API."""

    code = "admin_key_required"
    status = 403


class NotFound(RequestError):
    """No model, policy or decision of that name."""

    code = "not_found"
    status = 404


class Conflict(RequestError):
    """What is asked does not fit what is there now; somebody may have been faster."""

    code = "conflict"
    status = 409


class BodyTooLarge(RequestError):
    """The request body exceeds the configured bound."""

    code = "request_too_large"
    status = 413


class NoEligibleEndpoint(RequestError):
    """No endpoint of the pool can take the request (context, capabilities, allow-lists)."""

    code = "no_eligible_endpoint"


class Overloaded(GatewayError):
    """More is under way than there may be at once: requests in flight, estimates."""

    code = "overloaded"
    status = 503


class LedgerFull(GatewayError):
    """The journal is at its bound: better no paid call than an unrecorded one."""

    code = "ledger_full"
    status = 503


class LedgerUnavailable(GatewayError):
    """The ledger's database is away or has no tables; what must be written waits in the journal."""

    code = "ledger_unavailable"
    status = 503


class UpstreamError(GatewayError):
    """An endpoint failed to answer."""

    code = "upstream_error"
    status = 502


class UpstreamTimeout(UpstreamError):
    """An endpoint did not answer in time."""

    code = "upstream_timeout"
    status = 504
    type = "timeout_error"


class UpstreamRateLimited(UpstreamError):
    """An endpoint refused for its rate limit; `retry_after_s` is what it asked for, or None."""

    code = "rate_limit_exceeded"
    status = 429
    type = "rate_limit_error"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AllEndpointsFailed(UpstreamError):
    """Every endpoint of the order failed; the message names each with its error code."""

    code = "no_healthy_endpoint"
    status = 503


class PolicyError(GatewayError):
    """A policy is missing, misused or broke its contract."""

    code = "policy_error"


class UnknownPolicy(PolicyError):
    """No installed distribution registers a policy of that name."""

    code = "unknown_policy"


class DuplicatePolicy(PolicyError):
    """Two distributions register the same policy name."""

    code = "duplicate_policy"


class BadParameters(PolicyError):
    """A policy's parameters do not fit its annotations."""

    code = "invalid_policy_parameters"


class NotFitted(PolicyError):
    """`score`, `partial_fit` or `save` before `fit`."""

    code = "policy_not_fitted"


class BadScores(PolicyError):
    """Scores of the wrong shape, or not finite, or out of range."""

    code = "bad_scores"


class SnapshotMismatch(PolicyError):
    """Learned in another embedding space or width, or by another version of the format."""

    code = "snapshot_mismatch"
