"""The verb `forecast`: traffic, spend and quality of the days to come, under another policy, dial, price or budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from router_gateway.auditing import (
    NOT_IDENTIFIABLE,
    AsJson,
    ConfigFile,
    Demo,
    PolicyName,
    RuleName,
    Since,
    Source,
    WorthUsd,
    current_ledger,
    installation,
    question,
)
from router_gateway.core.errors import RequestError

if TYPE_CHECKING:
    from router_gateway.config import Config
    from router_gateway.evaluation.forecast import Change
    from router_gateway.evaluation.forecast_result import Forecast
    from router_gateway.evaluation.repricing import NewPrice

_DAYS_MAX = 366

Days = Annotated[int, typer.Option("--days", help="Days to come.")]
Price = Annotated[
    list[str] | None,
    typer.Option("--price", help="ENDPOINT=IN,OUT in USD per million tokens; repeatable. A price that changes."),
]
Budget = Annotated[float | None, typer.Option("--budget", help="USD a day: with which odds it is exceeded.")]


def command(source: Source) -> Callable[..., None]:
    """The function that typer runs; `source` finds the configuration file."""

    def forecast(
        days: Days = 30,
        policy: PolicyName = None,
        worth_usd: WorthUsd = None,
        rule: RuleName = "configured",
        price: Price = None,
        budget: Budget = None,
        since: Since = "30d",
        as_json: AsJson = False,
        config: ConfigFile = None,
        demo: Demo = False,
    ) -> None:
        """Forecast traffic, spend and quality, as things are and under a change (status 3: the ledger cannot say)."""
        from rich.console import Console

        from router_gateway import config as configuration
        from router_gateway.evaluation.forecast_text import lines, table

        loaded = configuration.load(source(config, demo))
        found = run(loaded, change(loaded, days, policy, worth_usd, rule, price or (), budget, since))
        if as_json:
            typer.echo(json.dumps(found.to_json(), indent=1, allow_nan=False))
        else:
            if found.as_logged is not None:
                Console().print(table(found))
            typer.echo("\n".join(lines(found)))
        raise typer.Exit(NOT_IDENTIFIABLE if found.refused else 0)

    return forecast


def run(config: Config, asked: Change) -> Forecast:
    """The answer for this installation, from its ledger as it is. Blocks for seconds; belongs in a thread."""
    from router_gateway.brain import build_endpoints
    from router_gateway.evaluation.forecast import forecast

    with current_ledger(config) as engine:
        return forecast(engine, installation(config), build_endpoints(config), asked)


def change(
    config: Config,
    days: int = 30,
    policy: str | None = None,
    worth_usd: float | None = None,
    rule: str = "configured",
    prices: Sequence[str] = (),
    budget: float | None = None,
    since: str = "30d",
) -> Change:
    """What the options ask. Raises RequestError naming the one that is wrong."""
    from router_gateway.evaluation.forecast import Change

    if not 1 <= days <= _DAYS_MAX:
        raise RequestError(f"days must be from 1 to {_DAYS_MAX}", param="days")
    if budget is not None and not 0 < budget < float("inf"):
        raise RequestError("budget must be above 0 and finite", param="budget")
    known = {endpoint.name for endpoint in config.endpoints}
    return Change(
        question=question(policy, worth_usd, rule, since),
        days=days,
        prices=dict(_price(said, known) for said in prices),
        budget_usd_per_day=budget,
    )


def _price(said: str, known: set[str]) -> tuple[str, NewPrice]:
    name, _, numbers = said.partition("=")
    try:
        sent, told = (float(number) for number in numbers.split(","))
        if not (0 <= sent < float("inf") and 0 <= told < float("inf")):
            raise ValueError
    except ValueError:
        raise RequestError(f"{said!r} is no ENDPOINT=IN,OUT", param="price", hint="say small=0.15,0.60") from None
    if name not in known:
        raise RequestError(f"{name!r} is no endpoint here", param="price", hint=f"there are {', '.join(sorted(known))}")
    from router_gateway.evaluation.repricing import NewPrice

    return name, NewPrice(input_usd_per_mtok=sent, output_usd_per_mtok=told)
