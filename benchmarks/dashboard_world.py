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
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import yaml

from router_gateway import config as configuration
from router_gateway.brain import Brain, build_endpoints
from router_gateway.core.money import cost_nusd
from router_gateway.core.periods import period_start
from router_gateway.core.types import Attempt, Decision, Endpoint, Feedback, FeedbackSource, Query, Usage
from router_gateway.evaluation.online import Stream, simulate
from router_gateway.ledger.budgets import Budgets
from router_gateway.ledger.connections import writing
from router_gateway.ledger.engine import migrate, open_engine
from router_gateway.ledger.inserts import Inserts
from router_gateway.ledger.keys import Keys
from router_gateway.ledger.layouts import stored_row
from router_gateway.ledger.records import attempt_record, decision_record, feedback_record
from router_gateway.ledger.segment import encode_payload
from router_gateway.ledger.tables import budget_windows
from router_gateway.routing.router import Router

MARK = "__pwned"
"""A property of the page's window that none of these texts may set."""

CORPUS = (
    f"<script>window.{MARK}=1</script>",
    f'<img src=x onerror="window.{MARK}=2">',
    f'"><svg onload=window.{MARK}=3>',
    f"{{{{constructor.constructor('window.{MARK}=4')()}}}}",
    f"${{window.{MARK}=5}}",
    f"`;window.{MARK}=6;`",
    f'</textarea><iframe srcdoc="<script>parent.{MARK}=7</script>"></iframe>',
    f"javascript:window.{MARK}=8",
    f":onclick=window.{MARK}=9",
    "{bold|rich} <b>text</b> &amp; &lt;i&gt;",
    '=HYPERLINK("http://evil.example","x")',
    f"</script><script>window.{MARK}=10</script>",
    f"' onmouseover='window.{MARK}=11",
)
"""Each must be shown as it is, and do nothing."""

MODELS = {
    # USD per million tokens in and out, milliseconds to a first token, tokens a second, quality by difficulty
    "nano": (0.05, 0.20, 180, 180, (0.93, 0.45, 0.12)),
    "small": (0.15, 0.60, 240, 140, (0.95, 0.70, 0.30)),
    "coder": (0.60, 2.40, 320, 90, (0.93, 0.78, 0.55)),
    "large": (2.50, 10.00, 520, 60, (0.96, 0.92, 0.86)),
}
TENANTS = ("acme", "globex", "initech", CORPUS[1])
_DIFFICULTIES = ("easy", "medium", "hard")
_STARTER = Path(__file__).resolve().parents[1] / "datasets" / "starter.jsonl"
_PROMPTS = 400
_BATCH = 2_000
_DAY_S = 86_400.0
_TURNS = 3
_CODER_BONUS = 0.25
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
    rows = [row for row in rows if len(row["prompt"]) < 600][:_PROMPTS]
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
        rows = _Rows(stream=stream, tenants=tenants, sessions=sessions, quality=trace.quality, rng=rng)
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


@dataclass(kw_only=True)
class _Rows:
    """What the requests left behind."""

    stream: Stream
    tenants: list[str]
    sessions: list[str]
    quality: Any
    rng: np.random.Generator
    spent_nusd: list[tuple[datetime, str, int]] = field(default_factory=list)

    def of(self, decisions: Sequence[Decision], start: int) -> Iterator[dict[str, Any]]:
        for t, made in enumerate(decisions, start):
            at = _instant(self.stream, t)
            query = replace(self.stream.queries[t], tenant=self.tenants[t], session=self.sessions[t])
            decision = replace(made, at=at)
            asked = CORPUS[t % len(CORPUS)] if t % 997 == 0 else "auto"
            yield decision_record(
                query, decision, requested_model=asked, embedding=self.stream.embedding[t], store_text=True,
                expected_nusd=round(decision.cost_usd[decision.endpoints.index(decision.endpoint)] * 1e9),
            )  # fmt: skip
            tried = self._attempts(query, decision, t)
            yield from map(attempt_record, tried)
            self.spent_nusd += [(each.at, query.tenant, each.cost_nusd) for each in tried]
            if tried[-1].status == 200 and self.rng.random() < 0.3:
                yield feedback_record(self._feedback(query, t, tried))

    def _attempts(self, query: Query, decision: Decision, t: int) -> list[Attempt]:
        """A call; now and then one that failed, with the next in order after it."""
        found, at = [], decision.at
        for number, name in enumerate(decision.order[:3], 1):
            hour = (decision.at - timedelta(hours=6)).hour
            away = name == "coder" and self.stream.at_s[-1] - self.stream.at_s[t] < 6 * 3600 and hour % 2
            failed = self.rng.random() < (0.5 if away else 0.015)
            column = list(MODELS).index(name)
            first_ms, per_s = MODELS[name][2], MODELS[name][3]
            usage = Usage(
                tokens_input=query.tokens_input, tokens_output=round(float(self.stream.tokens_output[t, column]))
            )
            first = first_ms * float(self.rng.lognormal(0, 0.35))
            latency = 40.0 if failed else first + usage.tokens_output / per_s * 1000 * float(self.rng.lognormal(0, 0.2))
            status, error = (int(self.rng.choice([429, 500, 503])), "upstream_error") if failed else (200, None)
            found.append(
                Attempt(
                    query_id=query.id, number=number, at=at, endpoint=name, status=status,
                    usage=None if failed else usage,
                    cost_nusd=0 if failed else cost_nusd(usage, self.stream.endpoints[column]),
                    first_byte_ms=None if failed else first, latency_ms=latency, error=error,
                )
            )  # fmt: skip
            at += timedelta(milliseconds=latency)
            if not failed:
                break
        return found

    def _feedback(self, query: Query, t: int, tried: Sequence[Attempt]) -> Feedback:
        column = list(MODELS).index(tried[-1].endpoint)
        score = float(self.stream.quality[t, column])
        source: FeedbackSource = ("user", "user", "label", "verifier")[t % 4]
        comment = (
            CORPUS[t % len(CORPUS)] if t % 61 == 0 else ("not what I asked" if score < 0.5 and t % 5 == 0 else None)
        )
        return Feedback(
            id=UUID(int=query.id.int ^ 1), query_id=query.id, at=tried[-1].at + timedelta(seconds=30), quality=score,
            source=source, tenant=query.tenant, comment=comment,
        )  # fmt: skip


def _chances(asked: Sequence[Prompt]) -> Any:
    """Float (P, E): the chance of a good answer."""
    found = np.array([[MODELS[m][4][_DIFFICULTIES.index(p.difficulty)] for m in MODELS] for p in asked])
    code = np.array([p.domain == "software_engineering" for p in asked])
    found[code, list(MODELS).index("coder")] = np.minimum(found[code, list(MODELS).index("coder")] + _CODER_BONUS, 0.97)
    return found


def _write_outcomes(path: Path, asked: Sequence[Prompt], chances: Any, rng: np.random.Generator) -> None:
    with path.open("w", encoding="utf-8") as file:
        for i, prompt in enumerate(asked):
            for e, (name, facts) in enumerate(MODELS.items()):
                sent, said = 12 + len(prompt.text) // 4, _ANSWER_TOKENS[prompt.difficulty]
                row = {
                    "dataset": "dashboard", "task": prompt.domain, "sample_id": str(i),
                    "split": "test" if prompt.domain == "odd" else "train",
                    "prompt": prompt.text, "model": name, "score": float(rng.random() < chances[i, e]),
                    "cost_usd": (sent * facts[0] + said * facts[1]) / 1e6, "input_tokens": sent, "output_tokens": said,
                    "latency_ms": facts[2], "response": f"What {name} once answered to: {prompt.text}",
                }  # fmt: skip
                file.write(json.dumps(row) + "\n")


def _write_config(path: Path) -> None:
    pool = [
        {
            "name": name, "model": f"maker/{name}-1", "base_url": "replay", "price_input_usd_per_mtok": facts[0],
            "price_output_usd_per_mtok": facts[1], "context_tokens_max": 128_000, "offers": ["json", "tools"],
        }
        for name, facts in MODELS.items()
    ]  # fmt: skip
    pool[-1]["region"] = CORPUS[2]
    settings = {
        "state_dir": "state",
        "server": {"port": 0},
        "embedder": {"kind": "hashing"},
        "ledger": {"store_text": True},
        "policy": {"name": "linear"},
        "other_policies": [{"name": "knn"}, {"name": "best_on_average"}, {"name": "cheapest"}],
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


def _instant(stream: Stream, t: int) -> datetime:
    return datetime.fromtimestamp((stream.queries[t].id.int >> 80) / 1000, UTC)


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


def _budgets(engine: Any, rows: _Rows) -> None:
    """For the gateway a day, and a tenant a month; with what the traffic spent of them."""
    now, budgets = datetime.now(UTC), Budgets(engine)
    for budget in (
        budgets.set("gateway", "", "day", 1_000_000_000),
        budgets.set("tenant", "acme", "month", 10_000_000_000),
    ):
        start = period_start(budget.period, now)
        of = [cost for at, tenant, cost in rows.spent_nusd if at >= start and budget.subject in ("", tenant)]
        window = {"budget_id": budget.id, "starts_at": start, "reserved_nusd": 0, "spent_nusd": sum(of)}
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
