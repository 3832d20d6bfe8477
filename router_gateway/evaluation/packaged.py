"""Real outcomes that come as an installed package: read as data, nothing of the package is imported or run."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from router_gateway.core.errors import ConfigError
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.outcomes import OutcomeTable
from router_gateway.evaluation.problems import Problems
from router_gateway.evaluation.readers import json_lines

_PACKAGE = "pareto_bandit"


def read_paretobandit(part: Literal["val", "test_holdout"]) -> Benchmark:
    """Outcomes of three models on public benchmark prompts, from the package `paretobandit` (Apache-2.0).

    `val` has 1,785 prompts, `test_holdout` 1,824, none of them in both. Quality is the reward of the
    package's judge, cost the recorded USD of the call; there are no token counts (see `tokens_for_cost`).
    Endpoint names are the part after "/". Raises ConfigError when the package is not installed.
    """
    path = data_folder() / f"{part}.jsonl"
    problems = Problems(path.name)
    table = OutcomeTable(problems)
    for where, row in json_lines(path, problems):
        arms = row.get("arms")
        if not isinstance(arms, dict) or not all(isinstance(outcome, dict) for outcome in arms.values()):
            problems.add(where, "arms", "must be an object of objects")
            continue
        for model, outcome in arms.items():
            table.add(where, _outcome(part, where, row, model, outcome))
    return table.build().deduplicated()


def _outcome(part: str, where: str, row: dict[str, Any], model: str, outcome: dict[str, Any]) -> dict[str, Any]:
    return {
        "dataset": "paretobandit",
        "task": row.get("source"),
        "sample_id": f"{part}-{int(where):05d}",
        "split": part,
        "prompt": row.get("prompt"),
        "model": model.rpartition("/")[2],
        "score": outcome.get("reward"),
        "cost_usd": outcome.get("cost"),
    }


def data_folder() -> Path:
    """Where the package's JSON lines lie. Raises ConfigError when it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)  # locates a top-level package without running it
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / "data" / "examples"
        if folder.is_dir():
            return folder
    raise ConfigError(
        ["the recorded outcomes of `paretobandit` are not installed"], hint="pip install 'router-gateway[demo]'"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """Token counts that explain a price; `exact` tells whether they explain it to the nano-dollar."""

    tokens_input: int
    tokens_output: int
    exact: bool


def tokens_for_cost(
    cost_nusd: int, price_input_nusd: int, price_output_nusd: int, tokens_input_guess: int
) -> TokenCounts:
    """Non-negative token counts whose price is `cost_nusd`, the input as near to the guess as can be.

    Prices are nano-dollars per token (USD per million tokens times 1,000). Solves

        tokens_input · price_input + tokens_output · price_output = cost

    in integers: after division by the prices' common divisor, inputs that solve it are one class modulo the
    output price. Where none does, the counts whose price is nearest are returned with `exact` False.
    Every cost that `read_paretobandit` returns is exact at its model's list prices.
    """
    if min(cost_nusd, price_input_nusd, price_output_nusd, tokens_input_guess) < 0:
        raise ValueError("cost, prices and the guess must not be negative")
    if price_input_nusd == 0 or price_output_nusd == 0:
        return _one_price(cost_nusd, price_input_nusd, price_output_nusd, tokens_input_guess)
    divisor = math.gcd(price_input_nusd, price_output_nusd)
    a, b = price_input_nusd // divisor, price_output_nusd // divisor
    cost = _nearest(cost_nusd, divisor)
    tokens_input, tokens_output = _solve(cost, a, b, tokens_input_guess) or _least_error(cost, a, b, tokens_input_guess)
    exact = tokens_input * price_input_nusd + tokens_output * price_output_nusd == cost_nusd
    return TokenCounts(tokens_input=tokens_input, tokens_output=tokens_output, exact=exact)


def _nearest(value: int, unit: int) -> int:
    return (2 * value + unit) // (2 * unit)


def _one_price(cost: int, price_input: int, price_output: int, guess: int) -> TokenCounts:
    """One side is free (or both): the other explains the cost alone."""
    tokens_input = _nearest(cost, price_input) if price_input else guess
    tokens_output = _nearest(cost, price_output) if price_output else 0
    exact = tokens_input * price_input + tokens_output * price_output == cost
    return TokenCounts(tokens_input=tokens_input, tokens_output=tokens_output, exact=exact)


def _solve(cost: int, a: int, b: int, guess: int) -> tuple[int, int] | None:
    """(i, o) with i · a + o · b = cost for coprime a and b, i nearest to the guess; None where there is none."""
    first = cost * pow(a, -1, b) % b if b > 1 else 0
    last_step = (cost // a - first) // b
    if last_step < 0:
        return None
    tokens_input = first + min(max(0, _nearest(guess - first, b)), last_step) * b
    return tokens_input, (cost - tokens_input * a) // b


def _least_error(cost: int, a: int, b: int, guess: int) -> tuple[int, int]:
    """The counts whose price is nearest. Only costs below (a - 1) · (b - 1) come here, so outputs are fewer than a."""
    pairs = [(_nearest(max(0, cost - o * b), a), o) for o in range(cost // b + 2)]
    return min(pairs, key=lambda pair: (abs(pair[0] * a + pair[1] * b - cost), abs(pair[0] - guess)))
