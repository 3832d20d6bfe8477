"""The cost/quality curve of policies on recorded outcomes of this pool, each prompt asked of one that never saw it.

Prompts are divided by hash into folds; each is routed by a policy fitted on the others, at prices learned there. Every
endpoint's outcome is known, so there is no doubt but that of the draw of the prompts, which are resampled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from router_gateway.core.errors import ConfigError, DataError, GatewayError
from router_gateway.core.experience import Experience
from router_gateway.core.types import Endpoint, Floats, Ints, NamedPolicy
from router_gateway.evaluation import fitting
from router_gateway.evaluation.audit_question import CurveQuestion
from router_gateway.evaluation.audit_standing import hull
from router_gateway.evaluation.curve import Subject
from router_gateway.evaluation.curve_result import Curves, Figured, Line, Point, grid
from router_gateway.evaluation.embeddings import Encoder
from router_gateway.evaluation.offpolicy import Log
from router_gateway.evaluation.paired import Bounds, Figures, at_equal_cost
from router_gateway.evaluation.prepared import Prepared, load_tables, prepare
from router_gateway.evaluation.splits import hash_order
from router_gateway.evaluation.sweep import dial_grid
from router_gateway.routing.router import Assessment, Router
from router_gateway.routing.streaming_cost import LearnedCost

FOLDS = 5
PROMPTS_MAX = 6_000
_SCANNED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Recorded outcomes and how to read them. source : as `evaluate` reads it; cost : makes the pool's cost model."""

    source: str
    pool: tuple[Endpoint, ...]
    encoder: Encoder
    cost: Callable[[tuple[Endpoint, ...]], LearnedCost]
    cache: Path


def reference_curves(reference: Reference, subjects: Sequence[Subject], question: CurveQuestion) -> Curves:
    """The curves of `subjects`, the live one first; outcomes that cannot say give a refusal, not an error.

    Raises UnknownPolicy or BadParameters for a policy that there is not.
    """
    told = Curves(on="reference", rule=question.rule)
    try:
        prepared, rows, notes = _read(reference, question.seed)
        fold = np.minimum((hash_order([prepared.table.prompts[i] for i in rows], salt="curve") * FOLDS), FOLDS - 1)
        asked = []
        for subject in subjects:
            try:
                asked.append((subject, _ask(reference, prepared, rows, fold.astype(np.int64), subject, question.rule)))
            except (GatewayError, ValueError) as error:
                if not asked:
                    raise
                notes.append(f"{subject.name} cannot be judged on these outcomes: {error}")
    except (ConfigError, DataError) as error:
        return Curves(on=told.on, rule=told.rule, refused=f"not identifiable: {error.message}")
    return _Drawing(prepared=prepared, rows=rows, asked=asked, question=question, notes=notes).curves()


def _read(reference: Reference, seed: int) -> tuple[Prepared, Ints, list[str]]:
    """The outcomes, the rows that are known whole, and what was left out."""
    tables = load_tables(reference.source)
    name, table = tables[0]
    if len(table) > PROMPTS_MAX:
        table = table.select(np.sort(np.argsort(hash_order([*table.prompts], salt=f"some {seed}"))[:PROMPTS_MAX]))
    prepared = prepare(name, table, encoder=reference.encoder, cache=reference.cache, pool=reference.pool)
    if not prepared.priced:
        raise DataError([f"{name}: no costs are recorded that differ, so there is no dial"])
    rows = np.flatnonzero(np.isfinite(prepared.table.quality).all(axis=1))
    if len(rows) < 2 * FOLDS:
        raise DataError([f"{name}: {len(rows)} prompts have outcomes of every endpoint"])
    notes = [f"{name}: {len(rows)} prompts with outcomes of {len(prepared.endpoints)} endpoints", *prepared.table.notes]
    if strangers := [e.name for e in reference.pool if e.name not in prepared.table.endpoints]:
        notes.append(f"without outcomes, and so without a part in this: {', '.join(strangers[:20])}")
    return prepared, rows, notes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fold:
    """A policy's answers to the prompts of one fold. at : their places among the rows asked."""

    router: Router
    seen: Assessment
    at: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A policy's answers to all rows, each by the policy that did not learn from it."""

    folds: tuple[_Fold, ...]
    rows: int

    def target(self, worth_usd: float) -> Floats:
        """float64 (n, E): with which odds each endpoint is drawn at a dial."""
        return self._joined(lambda fold: fold.router.weigh(fold.seen, np.asarray(worth_usd)).probability)

    def expected_usd(self) -> Floats:
        """float64 (n, E): what calls were expected to cost."""
        return self._joined(lambda fold: fold.seen.cost_usd)

    def _joined(self, of: Callable[[_Fold], Floats]) -> Floats:
        parts = [of(fold) for fold in self.folds]
        whole = np.empty((self.rows, parts[0].shape[1]))
        for fold, part in zip(self.folds, parts, strict=True):
            whole[fold.at] = part
        return whole


def _ask(reference: Reference, prepared: Prepared, rows: Ints, fold: Ints, subject: Subject, rule: str) -> _Asked:
    manner = subject.installation.asked_by(rule)
    names = prepared.table.endpoints
    tokens = fitting.with_tokens(prepared.table, prepared.endpoints)
    folds = []
    for number in range(FOLDS):
        learned, asked = rows[fold != number], np.flatnonzero(fold == number)
        if not len(asked) or not len(learned):
            continue
        table = prepared.table
        experience = Experience.from_table(
            prepared.batch(learned), names, table.quality[learned], table.cost_usd[learned]
        )
        policy = subject.installation.unfitted(subject.name).fit(experience)
        cost = reference.cost(prepared.endpoints)
        fitting.learn_lengths(cost, tokens.select(learned))
        named = NamedPolicy(name=subject.name, version=0, policy=policy)
        router = Router(
            endpoints=prepared.endpoints,
            default_endpoint=manner.default_endpoint if manner.default_endpoint in names else names[0],
            live=lambda named=named: named,  # type: ignore[misc]
            cost=cost,
            rule=manner.rule,
            space=prepared.space,
            worth_usd=subject.worth_usd,
            guard=manner.guard,
            optimism=manner.optimism,
        )
        at = rows[asked]
        seen = router.assess([prepared.queries[i] for i in at], prepared.embedding[at])
        folds.append(_Fold(router=router, seen=seen, at=asked))
    return _Asked(folds=tuple(folds), rows=len(rows))


@dataclass(frozen=True, kw_only=True)
class _Drawing:
    """What is known before a dial is read; the live policy is the first of `asked`."""

    prepared: Prepared
    rows: Ints
    asked: Sequence[tuple[Subject, _Asked]]
    question: CurveQuestion
    notes: Sequence[str]
    quality: Floats = field(init=False)
    cost_usd: Floats = field(init=False)
    log: Log = field(init=False)

    def __post_init__(self) -> None:
        count, table = len(self.rows), self.prepared.table
        ones = np.ones((count, 1))
        log = Log(  # of nothing but prompts, to resample them
            action=np.zeros(count, dtype=np.int64),
            propensity=ones[:, 0],
            probability=ones,
            cluster=np.arange(count),
            resamples=self.question.resamples,
            seed=self.question.seed,
        )
        derived = {"quality": table.quality[self.rows].astype(np.float64), "cost_usd": table.cost_usd[self.rows]}
        for name, value in {**derived, "log": log}.items():
            object.__setattr__(self, name, value)

    def curves(self) -> Curves:
        live, first = self.asked[0]
        own = [subject.worth_usd for subject, _ in self.asked]
        expected = first.expected_usd()
        wide = dial_grid(expected.mean(axis=0))[:0:-_SCANNED][::-1]
        if not len(wide):
            wide = np.array([live.worth_usd])
        spent = np.array([float((first.target(worth) * expected).sum(axis=1).mean()) for worth in wide])
        dials = grid(wide, spent, self.question.points, own)
        now = first.target(live.worth_usd)
        names = self.prepared.table.endpoints
        singles = {name: np.tile(row, (len(self.rows), 1)) for name, row in zip(names, np.eye(len(names)), strict=True)}
        cheapest = np.eye(len(names))[expected.argmin(axis=1)]
        targets = [asked.target(worth) for _, asked in self.asked for worth in dials]
        figured = self._figured([now, *targets, *singles.values(), cheapest])
        here, at_dials, plain = figured[0], figured[1 : 1 + len(targets)], figured[1 + len(targets) :]
        at_singles = dict(zip(singles, plain, strict=False))
        corners = hull({name: (float(f.quality[0]), float(f.cost_usd[0])) for name, f in at_singles.items()})
        worths = {name: float(f.quality[0] - f.cost_usd[0] / live.worth_usd) for name, f in at_singles.items()}
        mixing = [at_singles[name] for name in corners]
        points = [
            each.point(
                worth, now=(here, self._apart(target, now)), mix=self._mix(target, each, mixing, singles, corners)
            )
            for each, target, worth in zip(at_dials, targets, dials * len(self.asked), strict=True)
        ]
        baselines = [
            each.point(None, now=(here, self._apart(target, now)))
            for each, target in zip(plain, [*singles.values(), cheapest], strict=True)
        ]
        return Curves(
            on="reference",
            rule=self.question.rule,
            learned=len(self.rows) * (FOLDS - 1) // FOLDS,
            asked=len(self.rows),
            parts=FOLDS,
            lines=tuple(self._line(i, subject, points, len(dials)) for i, (subject, _) in enumerate(self.asked)),
            singles=dict(zip(singles, baselines, strict=False)),
            best_single=max(worths, key=worths.__getitem__),
            cheapest=baselines[-1],
            mix=tuple(corners),
            notes=tuple(self.notes),
        )

    @staticmethod
    def _line(number: int, subject: Subject, points: Sequence[Point], dials: int) -> Line:
        return Line(
            name=subject.name,
            what=subject.what,
            worth_usd=subject.worth_usd,
            points=tuple(points[number * dials : (number + 1) * dials]),
        )

    def _figured(self, targets: Sequence[Floats]) -> list[Figured]:
        terms = [(target * of).sum(axis=1) for target in targets for of in (self.quality, self.cost_usd)]
        sums = self.log.summed(np.column_stack(terms))
        totals = np.concatenate([sums.sum(axis=0, keepdims=True), self.log.resampled(sums)]) / len(self.rows)
        names = self.prepared.table.endpoints
        return [
            Figured(
                quality=totals[:, 2 * i],
                cost_usd=totals[:, 2 * i + 1],
                bounds=Bounds(0.0, 1.0, float(len(self.rows))),
                share=dict(zip(names, target.mean(axis=0).tolist(), strict=True)),
            )
            for i, target in enumerate(targets)
        ]

    def _apart(self, target: Floats, other: Floats) -> Bounds:
        """The range of a difference in quality: of the outcomes that the two choose differently."""
        apart = float(np.abs(target - other).sum(axis=1).mean()) / 2
        apart = min((apart * len(self.rows) + 2) / (len(self.rows) + 4), 1.0)
        return Bounds(-apart, apart, float(len(self.rows)))

    def _mix(
        self,
        target: Floats,
        own: Figured,
        mixing: Sequence[Figured],
        singles: Mapping[str, Floats],
        corners: Sequence[str],
    ) -> tuple[Floats, Bounds] | None:
        none = np.zeros(0)
        figures = [Figures(each.quality, each.cost_usd, none, none, none) for each in mixing]
        quality, weights = at_equal_cost(figures, own.cost_usd)
        coin = np.asarray(sum(w * singles[name] for w, name in zip(weights, corners, strict=True)))
        return quality, self._apart(target, coin)
