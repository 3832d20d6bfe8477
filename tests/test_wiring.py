import json
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import pytest
import yaml

from router_gateway import config as configuration
from router_gateway.brain import Brain, build_endpoints
from router_gateway.core.errors import ConfigError
from router_gateway.core.ids import uuid7
from router_gateway.core.judgement import JUDGING_TENANT
from router_gateway.evaluation.replay import query_of
from router_gateway.ledger.budgets import Budgets
from router_gateway.routing.cost import TokenLengthCost, TokenPriceCost
from router_gateway.wiring import build, build_route_models

SHORT, LONG = "Answer with the letter only. Question {}", "Explain step by step how to solve task {}"


@pytest.fixture
def outcomes(tmp_path):
    """Short questions with short answers, long ones with long answers."""
    path = tmp_path / "outcomes.jsonl"
    rows = []
    for i in range(60):
        prompt, tokens = (SHORT, 3) if i % 2 else (LONG, 400)
        rows += [
            {"dataset": "d", "task": "t", "sample_id": str(i), "prompt": prompt.format(i), "model": model, "score": 0.5,
             "cost_usd": 1e-4, "input_tokens": 20, "output_tokens": tokens}
            for model in ("small", "large")
        ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def brain(tmp_path, outcomes):
    def load(cost_model: str, **more: object) -> Brain:
        file = tmp_path / "gateway.yaml"
        prices = {"price_input_usd_per_mtok": 1, "price_output_usd_per_mtok": 1, "context_tokens_max": 10_000}
        settings = {
            "state_dir": str(tmp_path / "state"),
            "embedder": {"kind": "hashing"},
            "cost_model": cost_model,
            "training": {"outcomes": str(outcomes)},
            "default_endpoint": "small",
            "endpoints": [
                {"name": name, "model": name, "base_url": "http://127.0.0.1:9/v1", **prices}
                for name in ("small", "large")
            ],
            **more,
        }
        file.write_text(yaml.safe_dump(settings))
        config = configuration.load(file)
        made = Brain(config=config, endpoints=build_endpoints(config))
        made.load(_silent)
        return made

    return load


@contextmanager
def _silent(label):
    yield lambda done, total: None


def costs(brain):
    return brain.cost.expected_usd([query_of(prompt.format(99), uuid7()) for prompt in (SHORT, LONG)])


def test_the_learned_cost_model_prices_a_request_by_the_answer_it_asks_for(brain):
    constant, learned = costs(brain("constant")), costs(brain("learned"))
    assert constant[1, 0] < 1.2 * constant[0, 0]
    assert learned[1, 0] > 5 * learned[0, 0]


def test_a_second_start_takes_prices_from_the_snapshot(brain):
    first, second = brain("learned"), brain("learned")
    assert isinstance(second.cost, TokenLengthCost)
    assert second.live["clusters"].current().version == first.live["clusters"].current().version == 1
    np.testing.assert_array_equal(costs(first), costs(second))


def test_another_cost_model_fits_again(brain):
    assert isinstance(brain("constant").cost, TokenPriceCost)
    again = brain("learned")
    assert again.live["clusters"].current().version == 2
    assert costs(again)[1, 0] > 5 * costs(again)[0, 0]


def test_a_policy_that_reads_texts_is_shown_them_and_finds_them_in_its_snapshot(brain):
    route = {"name": "sums", "description": SHORT, "endpoints": ["large", "small"]}
    choice = {"name": "routes", "params": {"routes": [route]}}
    for start in ("fitted", "loaded"):
        named = brain("constant", policy=choice).live["routes"].current()
        assert named.version == 1, start
        assert named.policy.texts_.text == (SHORT,)


def test_a_policy_that_asks_a_route_model_gets_one_and_a_missing_key_is_told(brain, monkeypatch):
    asks = {"base_url": "http://127.0.0.1:9/v1", "model": "arch-router", "api_key_env": "TEST_ROUTE_KEY"}
    routes = [{"name": "sums", "description": SHORT, "endpoints": ["large", "small"]}]
    choice = {"name": "routes", "params": {"routes": routes, "asks": asks}}
    live = brain("constant", policy=choice, other_policies=[{"name": "best_on_average"}]).live
    monkeypatch.delenv("TEST_ROUTE_KEY", raising=False)
    with pytest.raises(ConfigError, match="TEST_ROUTE_KEY is not set"):
        build_route_models(live)
    monkeypatch.setenv("TEST_ROUTE_KEY", "sk-route-0123456789")
    assert list(build_route_models(live)) == ["routes"]
    again = brain("constant", policy=choice).live["routes"].current()
    assert (again.version, again.policy.asks) == (1, live["routes"].current().policy.asks), "from its snapshot"


async def test_one_learner_serves_all_and_judges_have_circuits_and_a_budget_of_their_own(brain, monkeypatch):
    made, real = [], Brain.learner
    monkeypatch.setattr(Brain, "learner", lambda self, engine: made.append(real(self, engine)) or made[-1])
    config = brain("constant", judging={"judges": ["large"], "share": 0.5, "usd_per_day": 0.25}).config
    built = build(config, replay_url=None, progress=_silent)
    try:
        assert made == [built.learner]
        [state] = Budgets(built.gateway.ledger.engine).states(datetime.now(UTC))
        assert (state.budget.subject, state.budget.limit_nusd) == (JUDGING_TENANT, 250_000_000)
        judge = built.app.state.parts.grader.judge
        assert judge._calls._dispatcher is not built.gateway.dispatcher
    finally:
        await built.gateway.aclose()
