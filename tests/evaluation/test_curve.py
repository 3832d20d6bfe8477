"""The dial as a curve on traffic whose truth is known, and on recorded outcomes: what is drawn, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from policies.knn import KNN
from router_gateway import config as configuration
from router_gateway import estimating
from router_gateway.core.errors import PolicyError, RequestError, UnknownPolicy
from router_gateway.evaluation.audit_question import CurveQuestion
from router_gateway.evaluation.curve import Subject, curves
from router_gateway.evaluation.curve_result import grid
from router_gateway.routing.rules import Greedy
from tests.evaluation.test_audit import RIGHT, covers, fresh, installed
from tests.evaluation.traffic_made import COST_USD, World

POOL = """
state_dir: {state}
ledger: {{url: "sqlite:///{state}/ledger.db"}}
embedder: {{kind: hashing}}
policy: {{name: knn, params: {{k: 10}}}}
worth_usd: 0.01
default_endpoint: cheap
training: {{outcomes: {outcomes}}}
endpoints:
  - {{name: cheap, model: c, base_url: "http://127.0.0.1:9/v1", context_tokens_max: 8000,
     price_input_usd_per_mtok: 1, price_output_usd_per_mtok: 1}}
  - {{name: dear, model: d, base_url: "http://127.0.0.1:9/v1", context_tokens_max: 8000,
     price_input_usd_per_mtok: 20, price_output_usd_per_mtok: 20}}
"""


def subject(tmp_path, policy="knn", what="live", worth_usd=0.01):
    return Subject(name=policy, what=what, installation=installed(tmp_path, policy), worth_usd=worth_usd)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Curves of knn and of one answer for all, on a ledger in which routing pays."""
    place = tmp_path_factory.mktemp("explored")
    engine, _ = fresh(place, World(), 2400)
    subjects = [subject(place), subject(place, "best_on_average", "policy")]
    found = curves(engine, subjects, CurveQuestion(points=8, rule="greedy", resamples=400))
    engine.dispose()
    return found


def at(line, worth_usd):
    return next(point for point in line.points if point.worth_usd == worth_usd)


def test_the_points_cover_the_truth_from_the_cheapest_dial_to_the_dearest(drawn):
    live, world = drawn.lines[0], World()
    dials = [point.worth_usd for point in live.points]
    assert dials == sorted(dials)
    assert 0.01 in dials, "the dial that is live is a point"
    assert covers(live.points[0].quality, world.value((0, 0)))
    assert live.points[0].cost_usd.value < 1.5 * world.cost_usd((0, 0)), "half a percent of the range of spends"
    assert live.points[0].share["small"] > 0.95
    assert covers(at(live, 0.01).quality, world.value(RIGHT))
    assert covers(live.points[-1].quality, 0.95)
    assert all(30 < point.ess < drawn.asked for point in live.points)


def test_changes_are_against_what_is_live_and_paired_with_it(drawn):
    live = drawn.lines[0]
    now = at(live, 0.01)
    assert now.quality_change.value == now.cost_change.value == 0.0
    assert (now.cost_change.low, now.cost_change.high) == (0.0, 0.0)
    cheapest = live.points[0]
    assert cheapest.cost_change.high < -0.9
    assert covers(cheapest.quality_change, World().value((0, 0)) - World().value(RIGHT))
    dearest = live.points[-1]
    width = dearest.quality_change.high - dearest.quality_change.low
    apart = dearest.quality.high - dearest.quality.low
    assert width < apart, "what both have in common cancels"


def test_routing_beats_the_coin_where_it_knows_something_and_one_answer_for_all_does_not(drawn):
    knn, average = drawn.lines
    assert at(knn, 0.01).over_mix.low > 0.05
    assert all(point.over_mix.low <= 0 <= point.over_mix.high for point in average.points)
    assert (drawn.best_single, drawn.mix) == ("large", ("small", "mid", "large"))
    assert covers(drawn.singles["mid"].quality, World().value((1, 1)))
    assert covers(drawn.cheapest.cost_usd, COST_USD[0])
    assert drawn.logged.cost_usd.value == pytest.approx(np.array([0.2, 0.6, 0.2]) @ COST_USD, rel=0.1)
    json.dumps(drawn.to_json(), allow_nan=False)


def test_a_logger_that_never_drew_says_nothing_of_any_dial(tmp_path):
    engine, _ = fresh(tmp_path, World(rule=Greedy()), 400)
    found = curves(engine, [subject(tmp_path)], CurveQuestion(points=4, resamples=50))
    engine.dispose()
    assert found.refused == ""
    assert all("the logger was deterministic" in point.refused for point in found.lines[0].points)
    assert all(point.quality is None for point in found.lines[0].points)
    json.dumps(found.to_json(), allow_nan=False)


def test_too_little_traffic_is_refused_in_words(tmp_path):
    engine, _ = fresh(tmp_path, World(), 20)
    found = curves(engine, [subject(tmp_path)], CurveQuestion(resamples=50))
    engine.dispose()
    assert "drawn ones to ask about" in found.refused
    assert found.lines == ()


class Picky(KNN):
    """Somebody's policy that learns nothing without prices."""

    def fit(self, experience):
        raise PolicyError("it needs prices")


def test_one_that_cannot_learn_here_is_left_out_and_told_and_one_that_there_is_not_is_refused(tmp_path):
    engine, _ = fresh(tmp_path, World(), 400)
    picky = replace(installed(tmp_path), unfitted=lambda name: Picky())
    other = Subject(name="picky", what="policy", installation=picky, worth_usd=0.01)
    found = curves(engine, [subject(tmp_path), other], CurveQuestion(points=3, resamples=50))
    assert [line.name for line in found.lines] == ["knn"]
    assert "picky cannot be judged on this log: it needs prices" in found.notes
    assert "it needs prices" in curves(engine, [other], CurveQuestion(points=3, resamples=50)).refused
    with pytest.raises(UnknownPolicy):
        curves(engine, [subject(tmp_path), subject(tmp_path, "nobody", "policy")], CurveQuestion())
    engine.dispose()


def test_the_grid_ends_where_the_dial_changes_nothing_any_more():
    dials = np.geomspace(1e6, 1e-6, 121)
    spent = np.interp(np.log10(dials), [-2, 1], [1.0, 5.0])
    found = grid(dials, spent, 10, [0.3])
    assert 0.3 in found
    assert found[0] == pytest.approx(0.01, rel=0.3)
    assert found[-1] == pytest.approx(10, rel=0.3)
    assert len(found) == 11
    flat = grid(dials, np.ones(121), 5, [0.02])
    assert flat[0] < 0.02 < flat[-1], "nothing changes, and still the dial can be moved"


def recorded(tmp_path, count=200):
    """Two kinds of prompt: `cheap` answers the even ones alone, `dear` all."""
    rows = ["dataset,task,sample_id,prompt,model,score,input_tokens,output_tokens"]
    for number in range(count):
        even = number % 2 == 0
        prompt = f"{'What is the sum of two and' if even else 'Summarise the clause of the contract number'} {number}?"
        rows.append(f"made,sums,{number},{prompt},cheap,{int(even)},100,100")
        rows.append(f"made,sums,{number},{prompt},dear,1,100,100")
    (tmp_path / "outcomes.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "gateway.yaml").write_text(POOL.format(state=tmp_path, outcomes=tmp_path / "outcomes.csv"))
    return configuration.load(tmp_path / "gateway.yaml")


def test_on_the_reference_every_prompt_is_asked_of_a_policy_that_never_saw_it(tmp_path):
    fresh(tmp_path, World(), 2)[0].dispose()
    loaded = recorded(tmp_path)
    question = CurveQuestion(on="reference", policies=("best_on_average",), points=6, resamples=100)
    found = estimating.curves(loaded, question)
    assert found.refused == ""
    assert (found.asked, found.parts) == (200, 5)
    knn, average = found.lines
    now = at(knn, 0.01)
    assert now.quality.value == 1.0, "the kinds are told apart"
    assert now.share == {"cheap": 0.5, "dear": 0.5}
    assert now.cost_usd.value == pytest.approx((0.0002 + 0.004) / 2)
    assert now.over_mix.value == pytest.approx(0.25)
    assert now.ess == 200
    assert knn.points[0].share["cheap"] == 1.0
    assert covers(average.points[-1].quality, 1.0)
    assert found.mix == ("cheap", "dear")
    assert found.best_single == "dear"
    assert found.logged is None
    json.dumps(found.to_json(), allow_nan=False)


def test_without_recorded_outcomes_there_is_no_reference_and_it_is_said(tmp_path):
    fresh(tmp_path, World(), 2)[0].dispose()
    (tmp_path / "gateway.yaml").write_text(POOL.format(state=tmp_path, outcomes="null"))
    found = estimating.curves(configuration.load(tmp_path / "gateway.yaml"), CurveQuestion(on="reference"))
    assert "training.outcomes" in found.refused


@pytest.mark.parametrize(
    ("said", "param"),
    [
        (("elsewhere", (), (), "greedy", 8, "30d"), "on"),
        (("traffic", (), (), "often", 8, "30d"), "rule"),
        (("traffic", (), (), "greedy", 1000, "30d"), "points"),
        (("traffic", (), (), "greedy", 8, "lately"), "since"),
        (("traffic", ("a", "b"), ("c", "d"), "greedy", 8, "30d"), "policy"),
        (("traffic", ("knn@3",), (), "greedy", 8, "30d"), "policy"),
    ],
)
def test_what_cannot_be_meant_is_named(said, param):
    with pytest.raises(RequestError) as error:
        CurveQuestion.read(*said)
    assert error.value.param == param
