"""Picks the dial: fits a policy on some queries, asks others at every dial, certifies the cheapest good enough.

The decisions are `Router.weigh`'s and what they bring is taken in expectation over the rule's probabilities. The
promise is about the policy as it was fitted here; one that has learned more since has to be asked again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from router_gateway import registry
from router_gateway.core.errors import ConfigError, DataError, RequestError
from router_gateway.core.experience import Experience
from router_gateway.core.protocols import CostModel, Rule
from router_gateway.core.types import Endpoint, Floats, Ints, NamedPolicy
from router_gateway.evaluation import fitting
from router_gateway.evaluation.conformal import REFERENCES, Certificate, Promise, certify
from router_gateway.evaluation.embeddings import Advance, Encoder, repeating
from router_gateway.evaluation.prepared import Prepared, load_tables, prepare
from router_gateway.evaluation.splits import hash_order
from router_gateway.evaluation.sweep import Expected, MeanCost, Sweep, dial_grid
from router_gateway.routing.cost import TokenPriceCost
from router_gateway.routing.guard import Guard
from router_gateway.routing.router import Router
from router_gateway.routing.rules import Greedy
from router_gateway.routing.streaming_cost import LearnedCost

FIT_SHARE = 0.5
_STEPS = 4  # dials for every one of an evaluation's grid: testing in order makes more of them free
_WORKERS_MAX = 4


def _constant_lengths(endpoints: tuple[Endpoint, ...]) -> TokenPriceCost:
    return TokenPriceCost(endpoints=endpoints)


class Progress(Protocol):
    """Given a label, a context manager whose value is called with (done, total)."""

    def __call__(self, label: str, /) -> AbstractContextManager[Advance]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How decisions are made, policy and dial apart. Without a pool: greedily among the endpoints of the file.

    pool : the configured endpoints; all of them must have outcomes, for a promise covers no stranger
    cost : makes the cost model of a pool, which learns answer lengths where the policy learns; without a pool
        each endpoint is priced at its mean
    params : parameters of the policy
    """

    encoder: Encoder = field(default_factory=Encoder)
    pool: tuple[Endpoint, ...] = ()
    cost: Callable[[tuple[Endpoint, ...]], LearnedCost] = _constant_lengths
    default_endpoint: str | None = None
    policy: str = "knn"
    params: Mapping[str, Any] = field(default_factory=dict)
    rule: Rule = field(default_factory=Greedy)
    guard: Guard = field(default_factory=Guard)
    optimism: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What routing and every endpoint bring to n queries that the policy has not learned from.

    worth_usd : float64 (D,), the dials, dearest first
    expected : of routing, (D, n)
    quality, cost_usd : (n, E) of the endpoints
    endpoints : E names
    best_single : column of the endpoint that was best where the policy learned
    """

    worth_usd: Floats
    expected: Expected
    quality: Floats
    cost_usd: Floats
    endpoints: tuple[str, ...]
    best_single: int

    def reference(self, of: str) -> Floats:
        """float64 (n,): quality of the reference of a promise, see `Promise`."""
        if of == "absolute":
            return np.ones(len(self.quality))
        if of == "oracle":
            return np.asarray(self.quality.max(axis=1), dtype=np.float64)
        column = self.best_single if of == "best-single" else self.endpoints.index(of)
        return self.quality[:, column].astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The outcome. `worth_usd` is None when nothing could be certified; figures are then of the dearest dial.

    quality, cost_usd : means of routing over the calibration queries; estimates, as all figures but the promise are
    reference_quality : mean of what the promise compares with
    """

    promise: Promise
    policy: str
    params: Mapping[str, Any]
    certificate: Certificate
    worth_usd: float | None
    quality: float
    cost_usd: float
    reference_quality: float
    best_single: str
    best_single_quality: float
    best_single_cost_usd: float
    dials: int
    queries_fitted: int
    queries_calibrated: int
    notes: tuple[str, ...] = ()

    @property
    def saving(self) -> float:
        """Share of the best single endpoint's cost that routing saves; NaN where that costs nothing."""
        own = self.best_single_cost_usd
        return 1.0 - self.cost_usd / own if own > 0 else float("nan")

    @property
    def p_value(self) -> float:
        """Of the picked dial, or of the dearest one when nothing could be certified."""
        tested = self.certificate.p_values
        return max(tested[: self.certificate.certified], default=tested[0])


def tune_source(
    source: str,
    promise: Promise,
    setting: Setting,
    *,
    cache: Path,
    progress: Progress,
    fit_on: str | None = None,
    fit_share: float = FIT_SHARE,
    seed: int = 0,
) -> Tuned:
    """Tune on recorded outcomes.

    source : a file in the common schema, or what else `evaluate` reads
    fit_on : outcomes to fit the policy on; prompts in both are not asked. None: `fit_share` of `source` by prompt
    Raises ConfigError, DataError or RequestError for what cannot be read or cannot be meant.
    """
    if not 0.0 < fit_share < 1.0:
        raise RequestError("the share to fit on must lie between 0 and 1, both excluded", param="fit_share")
    registry.create(setting.policy, setting.params)  # a mistake there must not wait for the embeddings
    asked = _load(source, setting, cache, progress)
    rank = hash_order(asked.table.prompts, salt=f"tune {seed}")
    order = np.argsort(rank)  # by hash: an order that the outcomes have no part in
    if fit_on is None:
        learned, learn_rows = asked, np.flatnonzero(rank < fit_share)
        ask_rows = order[rank[order] >= fit_share]
    else:
        learned = _load(fit_on, setting, cache, progress)
        learn_rows = np.arange(len(learned))
        known = set(learned.table.prompts)
        ask_rows = np.array([row for row in order if asked.table.prompts[row] not in known], dtype=np.int64)
    if not len(learn_rows) or not len(ask_rows):
        raise DataError([f"{source}: {len(learn_rows)} queries to fit on and {len(ask_rows)} others to calibrate with"])
    return tune(promise, setting, learned, learn_rows, asked, ask_rows)


def tune(
    promise: Promise, setting: Setting, learned: Prepared, learn_rows: Ints, asked: Prepared, ask_rows: Ints
) -> Tuned:
    """Fit on some rows, calibrate with others in the order given, which must not depend on their outcomes."""
    if promise.of not in (*REFERENCES, *learned.table.endpoints):
        known = ", ".join((*REFERENCES, *learned.table.endpoints))
        raise RequestError(f"no reference {promise.of!r}: there are {known}", param="of")
    outcomes = asked.table.quality[np.ix_(ask_rows, _columns(learned, asked))]
    whole = ask_rows[np.isfinite(outcomes).all(axis=1)]
    if not len(whole):
        raise DataError([f"{asked.name}: no query to calibrate with has outcomes of every endpoint"])
    found = ask(setting, learned, learn_rows, asked, whole)
    reference = found.reference(promise.of)
    certificate = certify(found.expected.quality, reference, promise)
    curve, single = found.expected.curve, found.best_single
    picked = int(curve.cost_usd[: max(1, certificate.certified)].argmin())
    left_out = len(ask_rows) - len(whole)
    missing = f"{left_out} queries without outcomes of every endpoint are not part of the calibration"
    return Tuned(
        promise=promise,
        policy=setting.policy,
        params=dict(setting.params),
        certificate=certificate,
        worth_usd=float(found.worth_usd[picked]) if certificate.certified else None,
        quality=float(curve.quality[picked]),
        cost_usd=float(curve.cost_usd[picked]),
        reference_quality=float(reference.mean()),
        best_single=found.endpoints[single],
        best_single_quality=float(found.quality[:, single].mean(dtype=np.float64)),
        best_single_cost_usd=float(found.cost_usd[:, single].mean()),
        dials=len(found.worth_usd),
        queries_fitted=len(learn_rows),
        queries_calibrated=len(whole),
        notes=(*asked.table.notes, *([missing] if left_out else [])),
    )


def ask(setting: Setting, learned: Prepared, learn_rows: Ints, asked: Prepared, rows: Ints) -> Asked:
    """Fit the policy on `learn_rows` and route `rows`, whose every outcome is known, at every dial."""
    if not (learned.priced and asked.priced):
        raise DataError([f"{asked.name}: no costs are recorded that differ, so there is no dial to pick"])
    experience = Experience.from_table(
        learned.batch(learn_rows),
        learned.table.endpoints,
        learned.table.quality[learn_rows],
        learned.table.cost_usd[learn_rows],
    )
    unfitted = registry.create(setting.policy, setting.params)
    policy = fitting.with_texts(unfitted, lambda: repeating(learned.encoder)).fit(experience)
    named = NamedPolicy(name=setting.policy, version=1, policy=policy)
    table = learned.table.select(learn_rows)
    names = table.endpoints
    router = Router(
        endpoints=learned.endpoints,
        default_endpoint=setting.default_endpoint or names[0],
        live=lambda: named,
        cost=_cost(setting, learned, learn_rows),
        rule=setting.rule,
        space=learned.space,
        worth_usd=1.0,  # every dial is given to `weigh`
        guard=setting.guard,
        optimism=setting.optimism,
    )
    mean_cost_usd = table.mean_cost_usd()
    columns = _columns(learned, asked)
    quality, cost_usd = asked.table.quality[np.ix_(rows, columns)], asked.table.cost_usd[np.ix_(rows, columns)]
    swept = Sweep(
        router=router,
        seen=router.assess([asked.queries[i] for i in rows], asked.embedding[rows]),
        columns=np.arange(len(names)),
        worth_usd=dials(mean_cost_usd[np.isfinite(mean_cost_usd)]),
    )
    return Asked(
        worth_usd=swept.worth_usd,
        expected=swept.expected(quality, cost_usd),
        quality=quality,
        cost_usd=cost_usd,
        endpoints=names,
        best_single=int(np.lexsort((mean_cost_usd, -table.mean_quality()))[0]),
    )


def dials(mean_cost_usd: Floats) -> Floats:
    """float64 (D,): `dial_grid`, finer and without infinity, dearest first, each as short as it will be printed.

    Raises DataError where all endpoints cost the same.
    """
    coarse = dial_grid(mean_cost_usd)[1:]
    if not len(coarse):
        raise DataError(["all endpoints cost the same, so there is no dial to pick"])
    steps = np.arange(_STEPS * (len(coarse) - 1) + 1) / _STEPS
    fine = np.exp(np.interp(steps, np.arange(len(coarse)), np.log(coarse)))
    return np.array([float(f"{worth:.4g}") for worth in fine])


def _cost(setting: Setting, learned: Prepared, rows: Ints) -> CostModel:
    """As the gateway prices a configured pool; else each endpoint's mean."""
    if not setting.pool:
        return MeanCost.of(learned.table.cost_usd[rows])
    cost = setting.cost(learned.endpoints)
    fitting.learn_lengths(cost, fitting.with_tokens(learned.table.select(rows), learned.endpoints))
    return cost


def _load(source: str, setting: Setting, cache: Path, progress: Progress) -> Prepared:
    tables = load_tables(source)
    if len(tables) != 1:
        names = ", ".join(name for name, _ in tables)
        raise ConfigError([f"{source}: holds several tables ({names})"], hint=f"name one, as in {source}:val")
    name, table = tables[0]
    with progress(f"Embedding {len(table)} prompts") as advance:
        prepared = prepare(
            name,
            table,
            encoder=setting.encoder,
            cache=cache,
            pool=setting.pool,
            workers=min(_WORKERS_MAX, os.cpu_count() or 1),
            advance=advance,
        )
    if strangers := [e.name for e in setting.pool if e.name not in prepared.table.endpoints]:
        raise DataError(
            [f"{source}: has no outcomes of {', '.join(strangers)}, which the configuration routes to"],
            hint="nothing can be promised of an endpoint that was never asked: record outcomes, or leave it out",
        )
    return prepared


def _columns(learned: Prepared, asked: Prepared) -> Ints:
    """Where `asked` has the endpoints that were learned."""
    there = asked.table.endpoints
    if missing := [name for name in learned.table.endpoints if name not in there]:
        raise DataError([f"{asked.name}: has no outcomes of {', '.join(missing)}, which the policy learned"])
    return np.array([there.index(name) for name in learned.table.endpoints], dtype=np.int64)
