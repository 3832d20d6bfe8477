"""The contract of a policy, as checks that say what to do.

    from router_gateway.testing import check_policy

    def test_contract() -> None:
        check_policy(lambda: MyPolicy())

or one pytest case per check: `@pytest.mark.parametrize("check", checks(), ids=str)`, then `check(factory)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from router_gateway.core.protocols import Policy
from router_gateway.testing import _checks_learning, _checks_scores, _checks_state

Factory = Callable[[], Policy]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise. Calling it with a factory of unfitted policies raises AssertionError where it is broken."""

    name: str
    run: Callable[[Factory], None]

    def __call__(self, factory: Factory) -> None:
        self.run(factory)

    def __str__(self) -> str:
        return self.name


def checks(*, beats_random: bool = True) -> tuple[Check, ...]:
    """All checks; `beats_random=False` leaves out those that only an estimate of quality can pass.

    That is for policies such as a cheapest-first or a random one: the rest of the contract still holds.
    """
    functions = [*_checks_scores.ALL, *_checks_learning.ALL, *_checks_state.ALL]
    if beats_random:
        functions += _checks_learning.OF_ESTIMATES
    return tuple(Check(name=function.__name__, run=function) for function in functions)


def check_policy(factory: Factory, *, beats_random: bool = True) -> None:
    """Run every check; raise one AssertionError that names each broken promise and what to do about it."""
    broken: list[str] = []
    for check in checks(beats_random=beats_random):
        try:
            check(factory)
        except AssertionError as error:
            broken.append(f"{check.name}: {error}")
        except Exception as error:  # a policy may raise anything; the author wants to see all of it at once
            broken.append(f"{check.name}: raised {type(error).__name__}: {error}")
    if broken:
        raise AssertionError("the policy breaks its contract\n" + "\n".join(f"- {line}" for line in broken))
