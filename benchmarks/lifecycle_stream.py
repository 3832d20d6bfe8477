"""The world of `make lifecycle`, its planted policies, its traffic, and one candidate's life in it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from router_gateway import registry
from router_gateway.core.experience import Experience
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Endpoint, Floats, Ints, NamedPolicy, Query
from router_gateway.learning.live import LivePolicy
from router_gateway.learning.manifest import Provenance
from router_gateway.learning.snapshots import Snapshots
from router_gateway.ledger.candidates import Candidates
from router_gateway.ledger.engine import migrate, open_engine
from router_gateway.ledger.shadows import Shadows
from router_gateway.lifecycle.desk import Desk
from router_gateway.lifecycle.evidence import Trial
from router_gateway.lifecycle.homes import Homes
from router_gateway.lifecycle.judge import Judge
from router_gateway.lifecycle.measures import NAMES, Sessions
from router_gateway.lifecycle.rollout import Rollout
from router_gateway.lifecycle.settings import Lifecycle
from router_gateway.lifecycle.shadowing import Shadowing
from router_gateway.routing.cost import TokenPriceCost
from router_gateway.routing.router import Router
from router_gateway.routing.rules import Greedy
from router_gateway.testing.worlds import World, specialists

LAST_STAGE_MAX = 2_500
"""Sessions of the canary after which a run that is still undecided in its last stage ends."""

_POLICY = "linear"
_QUESTIONS = 2_000
_CHUNK = 2_000
_LOOK = 50
_TURNS_MAX = 8
_ERRORS = 0.01
_RATED = 0.8
_TWIN_PRICE = 8.0
_IN_MEMORY = Path("/dev/shm")


@cache
def world() -> World:
    """Four specialists, and a twin of the first at eight times its price."""
    plain = specialists(seed=7)
    quality = np.column_stack([plain.quality, plain.quality[:, 0]])
    cost_usd = np.append(plain.cost_usd, _TWIN_PRICE * plain.cost_usd[0])
    return World(centres=plain.centres, quality=quality, cost_usd=cost_usd, space=plain.space)


def taught(kind: str) -> Experience:
    """What a planted policy learned from."""
    truth = world().experience(800, seed=11)
    _, cluster = world().queries(800, seed=11)
    wrong = {"bad": (1, 2), "slightly bad": (1,)}.get(kind, ())
    shifted = np.isin(cluster[truth.query], wrong) & (truth.endpoint < 4)
    endpoint = np.where(shifted, (truth.endpoint + 1) % 4, truth.endpoint)
    believed_worse = 0 if kind == "dear" else 4
    quality = np.where(endpoint == believed_worse, 0.8 * truth.quality, truth.quality)
    comparisons = np.zeros((0, 3), dtype=np.int64)
    return replace(truth, endpoint=endpoint, quality=quality.astype(np.float32), comparisons=comparisons)


@cache
def policy(kind: str) -> Any:
    return registry.create(_POLICY).fit(taught(kind))


@dataclass(kw_only=True)
class Workshop:
    """Routers over the world's endpoints."""

    live: LivePolicy

    @property
    def space(self) -> str:
        return world().space

    def lay_over(self, state: Mapping[str, Any]) -> None:
        """Nothing is saved here."""

    def configured(self, policy: str) -> LivePolicy:
        return self.live

    def router(self, live: LivePolicy, changes: Mapping[str, Any], candidate: str | None) -> Router:
        pool = endpoints()
        return Router(
            endpoints=pool,
            default_endpoint=pool[0].name,
            live=live.current,
            cost=TokenPriceCost(endpoints=pool),
            rule=Greedy(),
            space=self.space,
            worth_usd=0.02,
            candidate=candidate,
        )


@cache
def endpoints() -> tuple[Endpoint, ...]:
    """Priced so that an answer of 300 tokens costs what the world says."""
    prices = [Decimal(str(round(cost / 300 * 1e6, 6))) for cost in world().cost_usd]
    return tuple(
        Endpoint(
            name=name,
            model=name,
            price_input_usd_per_mtok=Decimal(0),
            price_output_usd_per_mtok=price,
            price_cached_input_usd_per_mtok=Decimal(0),
            price_cache_write_usd_per_mtok=Decimal(0),
            context_tokens_max=100_000,
        )
        for name, price in zip(world().endpoints, prices, strict=True)
    )


@cache
def questions() -> tuple[tuple[Query, ...], Floats, Ints]:
    """The questions that are asked, their vectors, and their kinds."""
    asked, cluster = world().queries(_QUESTIONS, seed=23)
    queries = tuple(Query(id=uuid7(), text=text, tokens_input=50) for text in asked.text)
    return queries, asked.embedding, cluster


@cache
def _by_kind() -> tuple[Ints, Ints]:
    """Questions by kind, padded (4, Q), and how many of each there are (4,)."""
    cluster = questions()[2]
    counts = np.bincount(cluster, minlength=4)
    padded = np.zeros((4, int(counts.max())), dtype=np.int64)
    for kind in range(4):
        padded[kind, : counts[kind]] = np.flatnonzero(cluster == kind)
    return padded, counts


_choices: dict[str, Ints] = {}


def choices(kind: str, router: Router) -> Ints:
    """By question, the column that `router`, over the policy of `kind`, chooses."""
    if kind not in _choices:
        queries, vectors, _ = questions()
        column = {name: i for i, name in enumerate(router.names)}
        _choices[kind] = np.array([column[decision.endpoint] for decision in router.route(queries, vectors)])
    return _choices[kind]


@dataclass(kw_only=True)
class Traffic:
    """Sessions as they come, and what they brought; one stage's at a time."""

    rng: np.random.Generator
    rollout: Rollout
    kinds: Mapping[bool, str]
    seed: int
    sessions: int = 0
    requests: int = 0

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A new stage: what was before counts no more."""
        self.seen: dict[bool, dict[str, list[Floats]]] = {side: {name: [] for name in NAMES} for side in (True, False)}
        self.rows = 0

    def arrive(self, canaries: int) -> None:
        """Let sessions come until about so many of the canary have."""
        share = self.rollout.splits()[_POLICY].shares.canary
        for _ in range(max(1, round(canaries / share / _CHUNK))):
            self._chunk(min(_CHUNK, max(1, round(canaries / share))))

    def _chunk(self, count: int) -> None:
        turns = np.minimum(self.rng.geometric(0.5, count), _TURNS_MAX)
        sides = np.zeros(count, dtype=np.int64)  # 0 outside, 1 live, 2 canary
        routers: dict[bool, Router] = {}
        for i in range(count):
            query = Query(id=questions()[0][0].id, text="", tokens_input=50, session=f"{self.seed} {self.sessions + i}")
            arm = self.rollout.arm(_POLICY, query, None)
            if arm is not None:
                canary = arm.router.candidate is not None
                sides[i], routers[canary] = 2 if canary else 1, arm.router
        self.sessions += count
        self.requests += int(turns.sum())
        for canary, router in routers.items():
            mine = turns[sides == (2 if canary else 1)]
            self._answer(canary, mine, choices(self.kinds[canary], router))

    def _answer(self, canary: bool, turns: Ints, chosen: Ints) -> None:
        """The world answers; a session keeps to one kind of question, and half of its luck is its own."""
        rng, cluster = self.rng, questions()[2]
        of = np.repeat(np.arange(len(turns)), turns)
        kind = rng.integers(0, 4, len(turns))[of]
        by_kind, each = _by_kind()
        asked = by_kind[kind, rng.integers(0, 1 << 30, len(of)) % each[kind]]
        endpoint = chosen[asked]
        luck = np.where(rng.random(len(of)) < 0.5, rng.random(len(turns))[of], rng.random(len(of)))
        good = (luck < world().quality[cluster[asked], endpoint]).astype(float)
        failed = (rng.random(len(of)) < _ERRORS).astype(float)
        cost = world().cost_usd[endpoint] * rng.lognormal(0.0, 0.8, len(of))
        wait = np.log(300.0 * (1 + 0.2 * np.minimum(endpoint, 3))) + rng.normal(0.0, 0.5, len(of))
        rated = (rng.random(len(of)) < _RATED) & (failed == 0)
        self._keep(canary, "errors", of, failed)
        self._keep(canary, "cost", of, cost)
        self._keep(canary, "first_token", of[failed == 0], wait[failed == 0], log=True)
        self._keep(canary, "quality", of[rated], good[rated])
        self.rows += len(of)

    def _keep(self, canary: bool, name: str, of: Ints, values: Floats, *, log: bool = False) -> None:
        """Means by session, in order of arrival."""
        counts = np.bincount(of, minlength=1)
        sums = np.bincount(of, weights=values, minlength=1)
        means = sums[counts > 0] / counts[counts > 0]
        self.seen[canary][name].append(np.exp(means) if log else means)

    def trial(self) -> Trial:
        live, candidate = (
            Sessions(**{name: np.concatenate([np.zeros(0), *parts]) for name, parts in self.seen[side].items()})
            for side in (False, True)
        )
        return Trial(live=live, candidate=candidate, rows=self.rows)

    @property
    def canaries(self) -> int:
        return sum(map(len, self.seen[True]["errors"]))


def run(kind: str, seed: int, settings: Lifecycle) -> dict[str, Any]:
    """One candidate's life."""
    logging.disable(logging.WARNING)  # each candidate that is taken back would say so
    live_kind = "slightly bad" if kind == "better" else "live"
    own_kind = "live" if kind in ("equal", "better") else kind
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None) as folder:
        directory = Path(folder)
        url = f"sqlite:///{directory}/ledger.db"
        (directory / "ledger.db").write_bytes(_migrated())
        engine = open_engine(url)
        made = Provenance.of(taught(own_kind), created=datetime(2026, 1, 1, tzinfo=UTC))
        planted = NamedPolicy(name=_POLICY, version=2, policy=policy(own_kind))
        Snapshots(directory / "snapshots").save(planted, made)
        live = LivePolicy(NamedPolicy(name=_POLICY, version=1, policy=policy(live_kind)))
        workshop = Workshop(live=live)
        routers = {_POLICY: workshop.router(live, {}, None)}
        homes = Homes(directory / "snapshots")
        desk = Desk(Candidates(engine), homes, settings, policies=[_POLICY], checked=dict)
        traffic: list[Traffic] = []
        judge = Judge(desk, read=lambda *_: traffic[0].trial(), held=lambda _: nullcontext(True))
        shadowing = Shadowing(Shadows(engine), rows_max=0)
        rollout = Rollout(routers=routers, desk=desk, judge=judge, workshop=workshop, shadowing=shadowing)
        desk.draft("planted", policy=_POLICY, snapshot=f"{_POLICY}@2", author="benchmark")
        desk.canary("planted", author="benchmark")
        rollout.refresh()
        kinds = {True: own_kind, False: live_kind}
        rng = np.random.default_rng([seed, *kind.encode()])
        traffic.append(Traffic(rng=rng, rollout=rollout, kinds=kinds, seed=seed))
        found = _live(traffic[0], judge, rollout, settings)
        engine.dispose()
    return {"kind": kind, "seed": seed, **found}


def _live(traffic: Traffic, judge: Judge, rollout: Rollout, settings: Lifecycle) -> dict[str, Any]:
    """Until it is rolled back or live, or its last stage has shown nothing for long."""
    canaries, stages = 0, 1
    while True:
        traffic.arrive(max(_LOOK, traffic.canaries // 10))
        moved = judge.step()
        if not moved:
            if stages == len(settings.shares) and traffic.canaries >= LAST_STAGE_MAX:
                return _told("canary", "undecided", stages, canaries, traffic)
            continue
        rollout.refresh()
        (row,) = moved
        if row.state != "canary":
            blocks = max(each["blocks"] for each in (row.evidence or {})["measures"])
            return _told(row.state, row.reason, stages, canaries, traffic) | {"blocks_in_stage": blocks}
        canaries += traffic.canaries
        stages += 1
        traffic.begin()


def _told(state: str, reason: str, stage: int, before: int, traffic: Traffic) -> dict[str, Any]:
    return {
        "state": state,
        "reason": reason,
        "stage": stage,
        "canary_sessions_in_stage": traffic.canaries,
        "canary_sessions": before + traffic.canaries,
        "sessions": traffic.sessions,
        "requests": traffic.requests,
    }


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        migrate(f"sqlite:///{folder}/ledger.db")
        return Path(folder, "ledger.db").read_bytes()


def truth() -> dict[str, dict[str, float]]:
    """Mean quality and cost of what each planted policy chooses, over the questions."""
    cluster, found = questions()[2], {}
    for kind in ("live", "bad", "slightly bad", "dear"):
        live = LivePolicy(NamedPolicy(name=_POLICY, version=1, policy=policy(kind)))
        chosen = choices(kind, Workshop(live=live).router(live, {}, None))
        found[kind] = {
            "quality": float(world().quality[cluster, chosen].mean()),
            "cost_usd": float(world().cost_usd[chosen].mean() * np.exp(0.32)),
        }
    return found
