"""For authors of policies: the contract as checks, and worlds whose best endpoint is known."""

from router_gateway.testing.conformance import Check, check_policy, checks
from router_gateway.testing.worlds import World, specialists, steady, two_by_two

__all__ = ["Check", "World", "check_policy", "checks", "specialists", "steady", "two_by_two"]
