import inspect
import re

import pytest

from router_gateway.core import errors
from router_gateway.core.errors import (
    BudgetExceeded,
    ConfigError,
    DataError,
    GatewayError,
    NoEligibleEndpoint,
    PolicyError,
    RequestError,
    UpstreamError,
    UpstreamRateLimited,
)

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, GatewayError)]


def test_the_drawn_tree_is_the_tree():
    drawn = set(re.findall(r"\b[A-Z]\w+", errors.__doc__.split("\n\nEach carries")[0].split("\n\n", 1)[1]))
    assert {cls.__name__ for cls in CLASSES} <= drawn


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_drawn_status_is_the_status(cls: type[GatewayError]):
    drawn = re.search(rf"\b{cls.__name__} +(\d{{3}})\b", errors.__doc__)
    assert drawn is None or int(drawn[1]) == cls.status


def test_codes_tell_the_errors_apart():
    codes = [cls.code for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch("[a-z_]+", code) for code in codes)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_clients_fault_has_a_status_of_its_own(cls: type[GatewayError]):
    if issubclass(cls, RequestError):
        assert 400 <= cls.status < 500
    elif issubclass(cls, PolicyError | UpstreamError):
        assert cls.status >= 500 or cls is UpstreamRateLimited


def test_a_narrower_code_belongs_to_one_message_only():
    narrow = NoEligibleEndpoint("too long", param="messages", code="context_length_exceeded")
    assert (narrow.code, narrow.param, str(narrow)) == ("context_length_exceeded", "messages", "too long")
    assert NoEligibleEndpoint("none").code == "no_eligible_endpoint"


def test_a_spent_budget_is_not_a_429_because_sdks_retry_those():
    assert BudgetExceeded("spent").status == 402
    assert BudgetExceeded("spent").type == "insufficient_quota"


@pytest.mark.parametrize("cls", [ConfigError, DataError])
def test_all_mistakes_are_reported_at_once(cls: type[ConfigError | DataError]):
    error = cls(["rule.gamma: negative", "endpoints: empty"], hint="see the example")
    assert error.problems == ("rule.gamma: negative", "endpoints: empty")
    assert str(error) == "rule.gamma: negative\nendpoints: empty"
    assert error.hint == "see the example"


def test_a_rate_limit_carries_the_wait_asked_for():
    assert UpstreamRateLimited("slow down", retry_after_s=2.5).retry_after_s == 2.5
    assert UpstreamRateLimited("slow down").retry_after_s is None
