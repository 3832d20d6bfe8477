"""Every registered policy keeps the whole contract."""

import pytest

from router_gateway import registry
from router_gateway.testing import Check, checks

NO_ESTIMATE = {"random", "cheapest"}
BUILT_IN = [name for name, info in registry.available().items() if info.distribution == "router-gateway"]
CASES = [
    pytest.param(name, check, id=f"{name}-{check}")
    for name in BUILT_IN
    for check in checks(beats_random=name not in NO_ESTIMATE)
]


def test_the_built_in_policies_are_registered():
    assert {
        "bandit",
        "knn",
        "linear",
        "clusters",
        "factors",
        "forest",
        "composed",
        "contrastive",
        "lookahead",
        "routes",
        "lexical",
        "profile",
        "stack",
        "preference",
        "best_on_average",
        *NO_ESTIMATE,
    } <= set(BUILT_IN)


@pytest.mark.parametrize(("name", "check"), CASES)
def test_contract(name: str, check: Check):
    check(lambda: registry.create(name))
