"""What the gateways of these tests are made of: recorded outcomes, configurations, and a look into the ledger."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import select

from router_gateway.ledger.connections import reading
from router_gateway.ledger.engine import open_engine
from router_gateway.ledger.tables import attempts, decisions, feedback

_STARTER = Path(__file__).resolve().parents[2] / "datasets" / "starter.jsonl"
_PROMPTS = 60
_PROMPT_CHARS_MAX = 250  # short ones are embedded in a moment
_SCORES = {"easy": (0.95, 0.95, 0.95), "medium": (0.5, 0.9, 0.95), "hard": (0.1, 0.4, 0.95)}

# USD per million tokens, input and output
PRICES = {
    "small": (Decimal("0.1"), Decimal("0.3")),
    "medium": (Decimal(1), Decimal(3)),
    "large": (Decimal(4), Decimal(12)),
}


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One prompt of the outcome file; all that is recorded of it follows from its number."""

    number: int
    prompt: str
    difficulty: str

    def tokens(self, model: str) -> tuple[int, int]:
        """Input and output."""
        return 20 + self.number, 30 + 10 * list(PRICES).index(model) + self.number

    def response(self, model: str) -> str:
        return f"Answer {self.number} as {model} once gave it."

    def cost_nusd(self, model: str) -> int:
        return sum(int(n * price * 1000) for n, price in zip(self.tokens(model), PRICES[model], strict=True))


@cache
def recorded() -> tuple[Recorded, ...]:
    """The prompts of the outcome file, of all domains and difficulties."""
    rows = [json.loads(line) for line in _STARTER.read_text(encoding="utf-8").splitlines()]
    short = [row for row in rows if len(row["prompt"]) <= _PROMPT_CHARS_MAX]
    chosen = short[:: len(short) // _PROMPTS][:_PROMPTS]
    return tuple(Recorded(number=i, prompt=r["prompt"], difficulty=r["difficulty"]) for i, r in enumerate(chosen))


def write_outcomes(path: Path, *, latency_ms: float = 1.0) -> None:
    """Made-up outcomes of three models in the common schema: the dearer the model, the more it can do."""
    with path.open("w", encoding="utf-8") as file:
        for each in recorded():
            for model, score in zip(PRICES, _SCORES[each.difficulty], strict=True):
                tokens_input, tokens_output = each.tokens(model)
                row = {
                    "dataset": "starter",
                    "task": "made-up",
                    "sample_id": str(each.number),
                    "split": "train" if each.number < 50 else "test",
                    "prompt": each.prompt,
                    "model": model,
                    "score": score,
                    "cost_usd": each.cost_nusd(model) / 1e9,
                    "input_tokens": tokens_input,
                    "output_tokens": tokens_output,
                    "latency_ms": latency_ms,
                    "response": each.response(model),
                }
                file.write(json.dumps(row) + "\n")


def endpoint(name: str, base_url: str, **changes: Any) -> dict[str, Any]:
    """Settings of an endpoint: one of the recorded three, or a plain one."""
    price_input, price_output = PRICES.get(name, (Decimal(2), Decimal(8)))
    return {
        "name": name,
        "model": f"maker/{name}-model",
        "base_url": base_url,
        "price_input_usd_per_mtok": float(price_input),
        "price_output_usd_per_mtok": float(price_output),
        "context_tokens_max": 32_000,
        "offers": ["json"],
        **changes,
    }


def write_config(directory: Path, endpoints: Sequence[Mapping[str, Any]], **changes: Any) -> Path:
    """A configuration with its state in `directory`; recorded outcomes are read from there, too."""
    outcomes = directory / "outcomes.jsonl"
    settings: dict[str, Any] = {
        "state_dir": str(directory / "state"),
        "server": {"port": 0},
        "policy": {"name": "knn", "params": {"k": 1, "prior_weight": 0.01}},
        "other_policies": [{"name": "cheapest"}],
        "training": {"outcomes": f"{outcomes}:train"},
        "default_endpoint": "medium",
        "endpoints": list(endpoints),
        **changes,
    }
    if any(e["base_url"] == "replay" for e in endpoints):
        settings.setdefault("replay", {"outcomes": str(outcomes)})
    path = directory / "gateway.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@dataclass(frozen=True)
class LedgerRows:
    """The ledger's tables as the database has them, read from outside the gateway."""

    url: str

    def all(self, table: Any) -> list[dict[str, Any]]:
        engine = open_engine(self.url)
        try:
            with reading(engine) as connection:
                return [dict(row._mapping) for row in connection.execute(select(table))]
        finally:
            engine.dispose()

    def decision(self, decision_id: str, *, attempts_min: int = 1) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """One decision and its attempts in order, once so many have arrived (a moment after the answer)."""
        deadline = time.monotonic() + 10.0
        while True:
            found = [row for row in self.all(decisions) if str(row["query_id"]) == decision_id]
            tried = [row for row in self.all(attempts) if str(row["query_id"]) == decision_id]
            if (found and len(tried) >= attempts_min) or time.monotonic() > deadline:
                assert len(found) == 1
                assert len(tried) >= attempts_min
                return found[0], sorted(tried, key=lambda row: row["number"])
            time.sleep(0.02)

    def feedback(self) -> list[dict[str, Any]]:
        return self.all(feedback)
