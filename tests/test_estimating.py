"""What is judged where nobody names a policy, and what a candidate is judged by."""

from __future__ import annotations

import pytest

from router_gateway import config as configuration
from router_gateway import estimating, registry
from router_gateway.brain import check_changes
from router_gateway.core.errors import NotFound
from router_gateway.core.types import NamedPolicy
from router_gateway.evaluation.audit_question import Change, Question
from router_gateway.evaluation.audit_standing import CANDIDATE
from router_gateway.evaluation.logged_outcomes import gathered, rated
from router_gateway.learning.manifest import Provenance
from router_gateway.ledger.candidates import Candidates
from router_gateway.ledger.decided import read_decided
from router_gateway.ledger.engine import migrate, open_engine
from router_gateway.lifecycle.desk import Desk
from router_gateway.lifecycle.homes import Homes
from router_gateway.lifecycle.settings import Lifecycle
from tests.evaluation.test_audit import CONFIG
from tests.evaluation.traffic_made import World, fill

PRICE_ALONE = 1e-9


@pytest.fixture
def installed(tmp_path):
    """(configuration, desk, engine) of a gateway that has explored."""
    migrate(url := f"sqlite:///{tmp_path}/ledger.db")
    engine = open_engine(url)
    fill(engine, World(), 1200)
    (tmp_path / "gateway.yaml").write_text(CONFIG.format(state=tmp_path))
    loaded = configuration.load(tmp_path / "gateway.yaml")
    homes = Homes(loaded.snapshots_dir)
    desk = Desk(Candidates(engine), homes, Lifecycle(), policies=["knn"], checked=check_changes)
    yield loaded, desk, engine
    engine.dispose()


def promoted(desk, name, **made):
    desk.draft(name, policy="knn", author="test", **made)
    desk.canary(name, author="test")
    desk.promote(name, to_live=True, author="test")


def shares(found):
    return {row.name: row.share for row in found.rows}[CANDIDATE]


def fitted(engine, kind, params):
    """What fits a policy on the ledger and saves it in a candidate's folder, as a draft with parameters does."""
    outcomes = gathered(*rated("the ledger", read_decided(engine, since=None, decisions_max=1200, rated_only=True)))
    experience = outcomes.experience(outcomes.drawn.nonzero()[0])

    def fit(home):
        named = NamedPolicy(name=kind, version=1, policy=registry.create(kind, params).fit(experience))
        home.save(named, Provenance.of(experience, created=desk_time()))
        return named.label

    return fit


def desk_time():
    from datetime import UTC, datetime

    return datetime(2026, 1, 1, tzinfo=UTC)


def test_what_is_live_is_judged_with_the_promoted_candidates_dial(installed):
    loaded, desk, _ = installed
    before = estimating.audit(loaded, Question(resamples=50))
    assert (before.candidate, before.worth_usd) == ("knn", None)
    assert shares(before)["large"] > 0.3
    promoted(desk, "thrifty", changes={"worth_usd": PRICE_ALONE})
    after = estimating.audit(loaded, Question(resamples=50))
    assert (after.candidate, after.worth_usd) == ("thrifty", PRICE_ALONE)
    assert shares(after)["small"] == 1.0
    assert estimating.audit(loaded, Question(resamples=50, worth_usd=0.01)).worth_usd == 0.01, "who says a dial gets it"
    assert estimating.audit(loaded, Question(resamples=50, policy="knn")).candidate == "knn"
    desk.rollback("thrifty", author="test")
    assert estimating.audit(loaded, Question(resamples=50)).candidate == "knn"


def test_a_draft_is_judged_with_its_rule_and_guard(installed):
    loaded, desk, _ = installed
    desk.draft("curious", policy="knn", changes={"rule": {"name": "epsilon_greedy", "epsilon": 1.0}}, author="test")
    desk.draft("timid", policy="knn", changes={"guard": {"z": 10.0}}, author="test")
    drawn = shares(estimating.audit(loaded, Question(resamples=50, candidate="curious", rule="configured")))
    assert drawn == pytest.approx({"small": 1 / 3, "mid": 1 / 3, "large": 1 / 3})
    plain = shares(estimating.audit(loaded, Question(resamples=50)))
    guarded = shares(estimating.audit(loaded, Question(resamples=50, candidate="timid")))
    assert guarded["mid"] > plain["mid"] + 0.3, (
        "the default endpoint is left for more than ten standard deviations alone"
    )


def test_a_draft_of_another_policy_is_judged_by_its_kind_and_parameters(installed):
    loaded, desk, engine = installed
    desk.draft("average", policy="knn", fit=fitted(engine, "best_on_average", {}), author="test")
    desk.draft("over", policy="knn", fit=fitted(engine, "knn", {"k": 7}), author="test")
    found = estimating.audit(loaded, Question(resamples=50, candidate="average"))
    assert found.candidate == "average"
    assert sorted(shares(found).values()) == [0, 0, 1], "the same endpoint for every request"
    question = Question(candidate="over")
    policy = estimating.installation(loaded, engine, question).unfitted("over")
    assert registry.parameters(policy)["k"] == 7
    promoted(desk, "on-top", changes={"worth_usd": 0.5})
    desk.draft("cheaper", policy="knn", changes={"optimism": 0.5}, author="test")
    judged = estimating.installation(loaded, engine, Question(candidate="cheaper"))
    assert (judged.worth_usd, judged.manner.optimism) == (0.5, 0.5), "what it was drafted over counts as well"


def test_a_forecast_takes_the_candidate_as_well(installed):
    loaded, desk, engine = installed
    desk.draft("thrifty", policy="knn", changes={"worth_usd": PRICE_ALONE}, author="test")
    fill(engine, World(), 480, seed=1, apart_s=3600.0)
    found = estimating.forecast(loaded, Change(question=Question(resamples=50, candidate="thrifty"), days=7))
    assert found.changed is not None
    assert found.changed.share["small"] == pytest.approx(1.0)
    assert found.spend_change.p90 < 0
    assert estimating.forecast(loaded, Change(question=Question(resamples=50))).changed is None, "nothing was asked"


def test_a_candidate_that_there_is_not_is_named(installed):
    with pytest.raises(NotFound) as error:
        estimating.audit(installed[0], Question(candidate="nobody"))
    assert error.value.param == "candidate"
