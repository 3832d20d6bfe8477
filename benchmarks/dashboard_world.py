"""An installation to look at: a configuration, recorded answers to replay, and a ledger of weeks of simulated traffic.

The tests, the screenshots and the benchmark of the dashboard stand on it. The requests are a stream of
router_gateway.evaluation.online, answered by the router that will serve, with its rule's draws; what came of them is
written as the gateway's writer writes it. Among prompts, names and notes is text that would be markup or script if
anybody took it for that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import yaml
from dashboard_rows import MODELS, Rows
from dashboard_texts import CORPUS
from dashboard_texts import MARK as MARK

from router_gateway import config as configuration
from router_gateway.brain import Brain, build_endpoints
from router_gateway.core.periods import Period, period_start
from router_gateway.core.types import Decision, Endpoint, Query
from router_gateway.evaluation.online import Stream, simulate
from router_gateway.ledger.budgets import Budgets, Scope
from router_gateway.ledger.connections import writing
from router_gateway.ledger.engine import migrate, open_engine
from router_gateway.ledger.inserts import Inserts
from router_gateway.ledger.keys import Keys
from router_gateway.ledger.layouts import stored_row
from router_gateway.ledger.segment import encode_payload
from router_gateway.ledger.tables import budget_windows
from router_gateway.routing.router import Router

TENANTS = ("acme", "globex", "initech", CORPUS[1])
_DIFFICULTIES = ("easy", "medium", "hard")
_STARTER = Path(__file__).resolve().parents[1] / "datasets" / "starter.jsonl"
_PROMPTS = 400
_BATCH = 2_000
_DAY_S = 86_400.0
_TURNS = 3
_CODE = frozenset({"software_engineering", "data_and_sql", "it_operations", "mathematics", "logic_puzzles"})
_ANSWER_TOKENS = {"easy": 60, "medium": 220, "hard": 480}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Something that people ask."""

    text: str
    domain: str
    difficulty: str


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where it lies, and the keys that open it."""

    directory: Path
    requests: int
    admin_key: str = field(repr=False)
    user_key: str = field(repr=False)

    @property
    def config(self) -> Path:
        return self.directory / "gateway.yaml"

    @classmethod
    def read(cls, directory: Path) -> World:
        """One that was made before, there or elsewhere: everything in it is relative."""
        facts = json.loads((directory / "world.json").read_text())
        return cls(directory=directory, **facts)


def prompts() -> list[Prompt]:
    """Of the starter set, with the corpus among them."""
    rows = [json.loads(line) for line in _STARTER.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if len(row["prompt"]) < 600]
    rows = [rows[i * len(rows) // _PROMPTS] for i in range(_PROMPTS)]
    plain = [Prompt(text=row["prompt"], domain=row["domain"], difficulty=row["difficulty"]) for row in rows]
    odd = [Prompt(text=f"What does this do? {text}", domain="odd", difficulty="medium") for text in CORPUS]
    return plain + odd


def make(directory: Path, requests: int = 50_000, *, days: int = 35, seed: int = 0) -> World:
    """Make one in an empty directory: `gateway.yaml`, `outcomes.jsonl`, `state/` with a ledger and fitted policies."""
    asked, rng = prompts(), np.random.default_rng(seed)
    chances = _chances(asked)
    _write_outcomes(directory / "outcomes.jsonl", asked, chances, rng)
    _write_config(directory / "gateway.yaml")
    (directory / "state").mkdir()
    migrate(f"sqlite:///{directory}/state/ledger.db")
    config = configuration.load(directory / "gateway.yaml").model_copy(
        update={"state_dir": directory / "state", "training": _training(directory)}
    )
    brain = Brain(config=config, endpoints=build_endpoints(config))
    brain.load(_quietly)
    stream, tenants, sessions = _stream(brain, asked, chances, requests, days, rng)
    learner = Serving(brain.routers()[config.policy.name])
    trace = simulate(learner, stream)
    engine = open_engine(f"sqlite:///{directory}/state/ledger.db")
    try:
        rows = Rows(stream=stream, tenants=tenants, sessions=sessions, quality=trace.quality, rng=rng)
        for start in range(0, requests, _BATCH):
            with writing(engine) as connection:
                inserts = Inserts(connection.dialect)
                records = rows.of(learner.decisions[start : start + _BATCH], start)
                inserts.execute(connection, inserts.prepare([stored_row(encode_payload(r)) for r in records]))
        keys = _keys(engine)
        _budgets(engine, rows)
    finally:
        engine.dispose()
    (directory / "world.json").write_text(json.dumps({"requests": requests, **keys}))
    return World.read(directory)


class Serving:
    """Answers a stream with one router, a batch of queries at a time; remembers what it decided."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.decisions: list[Decision] = []

    def choose(self, stream: Stream, t: int) -> int:
        """The endpoint for query t."""
        if t >= len(self.decisions):
            queries = stream.queries[t : t + _BATCH]
            self.decisions += self._router.route(queries, stream.embedding[t : t + len(queries)])
        return self._router.names.index(self.decisions[t].endpoint)

    def learn(self, stream: Stream, t: int, chosen: int, quality: float, cost_usd: float) -> None:
        """What serves here was fitted before."""

    def reprice(self, endpoints: Sequence[Endpoint]) -> None:
        """Prices stay."""


def _chances(asked: Sequence[Prompt]) -> Any:
    """Float (P, E): the chance of a good answer."""
    found = []
    for prompt in asked:
        level = _DIFFICULTIES.index(prompt.difficulty)
        found.append([(m.code if prompt.domain in _CODE else m.other)[level] for m in MODELS.values()])
    return np.array(found)


def _write_outcomes(path: Path, asked: Sequence[Prompt], chances: Any, rng: np.random.Generator) -> None:
    with path.open("w", encoding="utf-8") as file:
        for i, prompt in enumerate(asked):
            for e, (name, facts) in enumerate(MODELS.items()):
                sent, said = 12 + len(prompt.text) // 4, _ANSWER_TOKENS[prompt.difficulty]
                usd = (sent * facts.input_usd_per_mtok + said * facts.output_usd_per_mtok) / 1e6
                row = {
                    "dataset": "dashboard",
                    "task": prompt.domain,
                    "sample_id": str(i),
                    "split": "test" if prompt.domain == "odd" else "train",
                    "prompt": prompt.text,
                    "model": name,
                    "score": float(chances[i, e]),
                    "cost_usd": usd,
                    "input_tokens": sent,
                    "output_tokens": said,
                    "latency_ms": facts.first_token_ms,
                    "response": f"What {name} once answered to: {prompt.text}",
                }
                file.write(json.dumps(row) + "\n")


def _write_config(path: Path) -> None:
    pool: list[dict[str, Any]] = [
        {
            "name": name,
            "model": f"maker/{name}-1",
            "base_url": "replay",
            "price_input_usd_per_mtok": facts.input_usd_per_mtok,
            "price_output_usd_per_mtok": facts.output_usd_per_mtok,
            "context_tokens_max": 128_000,
            "offers": ["json", "tools"],
        }
        for name, facts in MODELS.items()
    ]
    pool[-1]["region"] = CORPUS[2]
    settings = {
        "state_dir": "state",
        "server": {"port": 0},
        "embedder": {"kind": "hashing"},
        "ledger": {"store_text": True},
        "policy": {"name": "linear", "params": {"penalty": 3}},
        "other_policies": [{"name": "knn", "params": {"k": 10}}, {"name": "best_on_average"}, {"name": "cheapest"}],
        "rule": {"name": "inverse_gap", "gamma": 40},
        "worth_usd": 0.01,
        "learning": {"enabled": False},
        "lifecycle": {"refresh_s": 1, "judge_s": 5, "blocks_min": 5},
        "training": {"outcomes": "outcomes.jsonl:train"},
        "replay": {"outcomes": "outcomes.jsonl"},
        "default_endpoint": "small",
        "endpoints": pool,
    }
    path.write_text(yaml.safe_dump(settings))


def _training(directory: Path) -> configuration.Training:
    return configuration.Training(outcomes=f"{directory}/outcomes.jsonl:train")


def _stream(
    brain: Brain, asked: Sequence[Prompt], chances: Any, count: int, days: int, rng: np.random.Generator
) -> tuple[Stream, list[str], list[str]]:
    """Prompts drawn again and again over the days, by the hour as people work, in sessions of a few turns."""
    at_s = _times(count, days, rng)
    rows = rng.integers(0, len(asked), count)
    rows[rng.random(count) < 0.97] %= len(asked) - len(CORPUS)  # the corpus comes seldom
    vectors = brain.embedder.embed([prompt.text for prompt in asked])
    tenants, sessions, left, tenant, session = [], [], 0, "", ""
    for t in range(count):
        if left == 0:
            left, tenant, session = (
                int(rng.geometric(1 / _TURNS)),
                str(rng.choice(TENANTS, p=(0.5, 0.3, 0.18, 0.02))),
                f"session-{t}",
            )
        tenants.append(tenant)
        sessions.append(session)
        left -= 1
    sent = np.array([12 + len(prompt.text) // 4 for prompt in asked])
    said = np.array([_ANSWER_TOKENS[prompt.difficulty] for prompt in asked])[rows, None] * rng.lognormal(
        0, 0.5, (count, len(MODELS))
    )
    usd = np.array([facts[:2] for facts in MODELS.values()]) / 1e6
    start = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(days=days)
    queries = tuple(
        Query(id=_id(start, float(at_s[t]), t, rng), text=asked[row].text, tokens_input=int(sent[row]))
        for t, row in enumerate(rows)
    )
    stream = Stream(
        queries=queries,
        embedding=vectors[rows],
        space=brain.space,
        endpoints=brain.endpoints,
        quality=(rng.random((count, len(MODELS))) < chances[rows]).astype(np.float32),
        cost_usd=sent[rows, None] * usd[:, 0] + said * usd[:, 1],
        tokens_output=np.maximum(said, 1.0),
        available=np.ones((count, len(MODELS)), dtype=bool),
        at_s=at_s,
    )
    return stream, tenants, sessions


def _times(count: int, days: int, rng: np.random.Generator) -> Any:
    """Seconds since the start, ascending; nights and weekends are quiet, and there is more from week to week."""
    hours = np.arange(days * 24)
    busy = (1.0 + 0.9 * np.sin((hours % 24 - 8) / 24 * 2 * np.pi)) * (1 + hours / len(hours))
    busy *= np.where(hours // 24 % 7 >= 5, 0.35, 1.0)
    drawn = rng.choice(hours, size=count, p=busy / busy.sum())
    return np.sort((drawn + rng.random(count)) * 3600.0)


def _id(start: datetime, at_s: float, t: int, rng: np.random.Generator) -> UUID:
    """Like the gateway's: ids ascend with time."""
    milliseconds = int((start.timestamp() + at_s) * 1000)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | (t & 0xFFF) << 64 | 0b10 << 62 | int(rng.integers(1 << 61)) << 1)


def _keys(engine: Any) -> dict[str, str]:
    """An admin's, a client's, and some with odd names."""
    keys = Keys(engine)
    made = {
        "admin_key": keys.create("dashboard", admin=True),
        "user_key": keys.create("app", tenant="acme", allows=("small", "large")),
    }
    for text in CORPUS[:3]:
        keys.create(text[:80], tenant="globex")
    return made


def _budgets(engine: Any, rows: Rows) -> None:
    """For the gateway a day, and a tenant a month; the traffic has spent some of each, and never all of it."""
    now, budgets = datetime.now(UTC), Budgets(engine)
    scopes: tuple[tuple[Scope, str, Period], ...] = (("gateway", "", "day"), ("tenant", "acme", "month"))
    for scope, subject, period in scopes:
        start = period_start(period, now)
        spent_nusd = sum(cost for at, tenant, cost in rows.spent_nusd if at >= start and subject in ("", tenant))
        budget = budgets.set(scope, subject, period, int(1.5 * spent_nusd) + 5_000_000_000)
        window = {"budget_id": budget.id, "starts_at": start, "reserved_nusd": 0, "spent_nusd": spent_nusd}
        with writing(engine) as connection:
            connection.execute(budget_windows.insert().values(window))


@contextmanager
def _quietly(label: str) -> Iterator[Any]:
    yield lambda done, total: None


if __name__ == "__main__":
    import sys
    import time

    began = time.perf_counter()
    where = Path(sys.argv[1])
    where.mkdir(parents=True)
    make(where, int(sys.argv[2]) if len(sys.argv) > 2 else 50_000)
    print(f"{time.perf_counter() - began:.1f} s")
