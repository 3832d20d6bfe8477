from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest

from policies.bandit import Bandit
from router_gateway.core.experience import Experience
from router_gateway.core.types import Endpoint, Queries, Query
from router_gateway.evaluation import online_events as events
from router_gateway.evaluation.online import Stream, simulate
from router_gateway.evaluation.online_gateway import Paced, StepRule, teach_costs
from router_gateway.routing.pacing import BudgetPacer
from router_gateway.routing.plans import PerRequest
from router_gateway.routing.rules import Greedy
from router_gateway.routing.streaming_cost import StreamingLengthCost

MEANS, USD = np.array([0.5, 0.8, 0.9]), np.array([0.0003, 0.003, 0.03])


def endpoint(name: str, usd_per_mtok: str) -> Endpoint:
    price = Decimal(usd_per_mtok)
    return Endpoint(
        name=name,
        model=name,
        price_input_usd_per_mtok=Decimal(0),
        price_output_usd_per_mtok=price,
        price_cached_input_usd_per_mtok=Decimal(0),
        price_cache_write_usd_per_mtok=Decimal(0),
        context_tokens_max=100_000,
    )


@pytest.fixture
def stream() -> Stream:
    """Answers of 300 tokens; the dearer an endpoint, the better, whatever is asked."""
    rng, count = np.random.default_rng(0), 400
    embedding = rng.normal(size=(count, 8)).astype(np.float32)
    return Stream(
        queries=tuple(Query(id=UUID(int=i), text=f"question {i}", tokens_input=0) for i in range(count)),
        embedding=embedding / np.linalg.norm(embedding, axis=1, keepdims=True),
        space="made",
        endpoints=tuple(endpoint(n, p) for n, p in (("small", "1"), ("middle", "10"), ("large", "100"))),
        quality=np.clip(rng.normal(MEANS, 0.05, (count, 3)), 0, 1).astype(np.float32),
        cost_usd=np.tile(USD, (count, 1)),
        tokens_output=np.full((count, 3), 300.0),
        available=np.ones((count, 3), dtype=bool),
        at_s=np.arange(count) * 1_000.0,
    )


def paced(stream: Stream, usd: float, *, batch: int = 1) -> Paced:
    known = Queries(
        text=tuple(q.text for q in stream.queries),
        embedding=stream.embedding,
        tokens_input=np.zeros(len(stream), dtype=np.int64),
        space=stream.space,
    )
    policy = Bandit().fit(Experience.from_table(known, [e.name for e in stream.endpoints], stream.quality))
    return Paced(
        policy=policy,
        cost=teach_costs(StreamingLengthCost(endpoints=stream.endpoints), stream),
        pacer=BudgetPacer(plan=PerRequest(usd=usd), rule=Greedy()),
        rule=Greedy(),
        space=stream.space,
        batch=batch,
    )


def test_spend_meets_the_budget_through_the_router(stream):
    trace = simulate(paced(stream, 0.01), stream)
    assert trace.cost_usd.mean() == pytest.approx(0.01, rel=0.1)
    assert trace.quality.mean() > 0.8


@pytest.mark.parametrize("batch", [1, 16])
def test_only_the_chosen_cells_matter(stream, batch: int):
    first = simulate(paced(stream, 0.003, batch=batch), stream)
    hidden = np.ones((len(stream), 3), dtype=bool)
    hidden[np.arange(len(stream)), first.chosen] = False
    learner = paced(stream, 0.003, batch=batch)
    rest = {"quality": 0.0, "cost_usd": 9.0, "tokens_output": 5.0}
    altered = replace(stream, **{n: np.where(hidden, v, getattr(stream, n)) for n, v in rest.items()})
    second = simulate(learner, altered)
    np.testing.assert_array_equal(first.chosen, second.chosen)
    np.testing.assert_array_equal(first.quality, second.quality)


def test_a_newcomer_is_not_asked_before_it_is_there(stream):
    late = events.newcomer(stream, 1, at=200)
    trace = simulate(paced(stream, 0.003), late)
    assert not (trace.chosen[:200] == 1).any()
    assert (trace.chosen[200:] == 1).mean() > 0.8


def test_a_quality_drop_is_noticed(stream):
    trace = simulate(paced(stream, 0.004), events.quality_drop(stream, 1, at=100, share=0.9))
    assert (trace.chosen[:100] == 1).mean() > 0.8
    assert (trace.chosen[-50:] == 1).mean() < 0.5


def test_a_failure_costs_nothing_and_is_worth_nothing(stream):
    failed = events.failure(stream, 2, at=10)
    assert failed.quality[10:, 2].max() == failed.cost_usd[10:, 2].max() == 0.0
    assert failed.quality[9, 2] == stream.quality[9, 2]


def test_a_price_cut_is_taken_at_once(stream):
    cut = events.price_cut(stream, 2, at=200, factor=0.05)
    trace = simulate(paced(stream, 0.003), cut)
    assert (trace.chosen[:200] == 2).mean() < 0.1 < 0.8 < (trace.chosen[220:] == 2).mean()
    assert cut.endpoints == stream.endpoints  # the old list holds until then


def test_the_step_rule_falls_back_when_its_share_is_spent(stream):
    rule = StepRule(inner=paced(stream, 0.003), worth_usd=10.0, day_usd=0.5, share=0.8)
    trace = simulate(rule, stream)
    day = (stream.at_s // 86_400).astype(int)
    spent = np.bincount(day, weights=trace.cost_usd)
    assert set(trace.chosen.tolist()) == {0, 2}
    assert (spent < 0.8 * 0.5 + 0.03 + 87 * USD[0]).all()


def test_an_endpoint_that_is_not_there_cannot_be_chosen(stream):
    class Stubborn:
        def choose(self, stream, t):
            return 1

        def learn(self, stream, t, chosen, quality, cost_usd): ...

        def reprice(self, endpoints): ...

    with pytest.raises(ValueError, match="query 0: middle is not available"):
        simulate(Stubborn(), events.newcomer(stream, 1, at=5))


def test_a_stream_names_the_array_that_does_not_fit(stream):
    with pytest.raises(ValueError, match="cost_usd has shape"):
        replace(stream, cost_usd=stream.cost_usd[:, :2])
    with pytest.raises(ValueError, match="needs an endpoint"):
        replace(stream, available=np.zeros_like(stream.available))


def test_recovery_counts_requests_until_the_mean_is_reached():
    hits = np.r_[np.ones(10), np.zeros(7), np.ones(20)]
    assert events.recovery_requests(hits, at=10, window=4, target=0.75) == 10
    assert events.recovery_requests(hits[:15], at=10, window=4, target=0.75) is None
