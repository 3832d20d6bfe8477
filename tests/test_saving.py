"""Settings saved while the gateway serves: what they may be, who said what is in force, and what follows them."""

from datetime import UTC, datetime

import numpy as np
import pytest
import yaml

from router_gateway import config as configuration
from router_gateway.brain import Brain, build_endpoints, with_changes
from router_gateway.core.errors import RequestError
from router_gateway.ledger.engine import migrate, open_engine
from router_gateway.ledger.pace_keeper import PaceKeeper
from router_gateway.ledger.saved_settings import SavedSettings
from router_gateway.routing.plans import PerPeriod
from router_gateway.routing.rules import Greedy
from router_gateway.saving import Saving, with_saved

POOL = [
    {
        "name": "a",
        "model": "m-a",
        "base_url": "http://127.0.0.1:9/v1",
        "context_tokens_max": 8_000,
        "price_input_usd_per_mtok": 0.1,
        "price_output_usd_per_mtok": 0.4,
    }
]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch):
    import os

    for name in [name for name in os.environ if name.upper().startswith("ROUTER_GATEWAY")]:
        monkeypatch.delenv(name)


@pytest.fixture
def loaded(tmp_path):
    """`loaded(**settings)`: a configuration as a file says it, over the environment as it is."""

    def load(**settings):
        path = tmp_path / "gateway.yaml"
        whole = {"default_endpoint": "a", "endpoints": POOL, "embedder": {"kind": "hashing"}, **settings}
        path.write_text(yaml.safe_dump({"state_dir": str(tmp_path), **whole}))
        return configuration.load(path)

    return load


def because(saving, state=None, candidate=None):
    return {name: each["because"] for name, each in saving.told(state or {}, candidate or {}).items()}


def test_each_setting_tells_who_said_it(loaded, monkeypatch):
    monkeypatch.setenv("ROUTER_GATEWAY__GUARD__Z", "1.5")
    saving = Saving(loaded(preset="bandit", worth_usd=0.01, pacing={"usd": 2.0}))
    assert because(saving) == {
        "worth_usd": "file",
        "optimism": "preset",
        "rule": "preset",
        "guard": "environment",
        "pacing_usd": "file",
    }
    told = saving.told({"guard": {"z": 2.0}}, {"guard": {"z": 3.0}, "optimism": 0.5})
    assert told["guard"] == {"value": {"z": 3.0}, "because": "candidate"}
    assert told["optimism"] == {"value": 0.5, "because": "candidate"}
    assert because(saving, {"guard": {"z": 2.0}, "worth_usd": 1.0})["guard"] == "saved"
    assert saving.told({}, {})["guard"]["value"]["z"] == 1.5


def test_what_nobody_said_is_a_default(loaded):
    assert set(because(Saving(loaded())).values()) == {"default"}


def test_a_file_goes_before_the_preset_and_is_told_so(loaded):
    saving = Saving(loaded(preset="bandit", optimism=0.25))
    assert because(saving)["optimism"] == "file"


@pytest.mark.parametrize("name", ["worth_usd", "optimism", "rule"])
def test_where_a_pacer_moves_the_dial_nobody_saves_one_that_nobody_would_see(loaded, name):
    saving, value = Saving(loaded(pacing={"usd": 2.0})), {"name": "greedy"} if name == "rule" else 1.0
    with pytest.raises(RequestError) as caught:
        saving.check({name: value})
    assert caught.value.param == f"changes.{name}"
    assert saving.check({name: None}) == {name: None}, "what was saved before can be lifted"
    assert saving.check({"pacing_usd": 3, "guard": {"z": 1}}) == {"pacing_usd": 3.0, "guard": {"z": 1.0}}


def test_a_saved_state_lies_over_the_configuration_and_lifting_it_brings_that_back(loaded):
    config = loaded(worth_usd=0.01, pacing={"usd": 2.0, "per": "hour"})
    over = with_changes(config, {"worth_usd": 0.5, "rule": {"name": "inverse_gap", "gamma": 7.0}, "pacing_usd": 9.0})
    assert (over.worth_usd, over.rule.gamma, over.pacing.usd, over.pacing.per) == (0.5, 7.0, 9.0, "hour")
    assert with_changes(config, {}) == config
    assert with_changes(loaded(), {"pacing_usd": 9.0}).pacing is None


def test_what_is_saved_is_read_by_whoever_has_the_database(loaded):
    config = loaded(worth_usd=0.01)
    migrate(config.ledger_url)
    engine = open_engine(config.ledger_url)
    try:
        assert with_saved(config, engine) == config
        SavedSettings(engine).save({"worth_usd": 0.75}, author="ann")
        assert with_saved(config, engine).worth_usd == 0.75
    finally:
        engine.dispose()


def test_routers_and_pacer_follow_a_saved_state(loaded):
    config = loaded(policy={"name": "best_on_average"}, pacing={"usd": 2.0})
    brain, told = Brain(config=config, endpoints=build_endpoints(config)), []
    brain.rebudget = told.append
    brain.lay_over({"pacing_usd": 5.0, "guard": {"z": 2.0}})
    assert told == [5.0]
    assert brain.in_force.pacing.usd == 5.0
    assert brain.in_force.guard.z == 2.0
    brain.lay_over({})
    assert told == [5.0, 2.0]
    with pytest.raises(RequestError):
        brain.lay_over({"guard": {"z": -1}})
    assert brain.in_force.guard.z == 0.0


def test_a_paced_period_goes_on_with_its_new_budget_and_what_is_spent_of_it(loaded):
    config = loaded(pacing={"usd": 24.0, "per": "day"})
    migrate(config.ledger_url)
    engine = open_engine(config.ledger_url)
    noon = datetime(2030, 5, 17, 12, tzinfo=UTC)
    try:
        pacer = config.pacing.pacer(rule=Greedy(), worth_usd=0.02, optimism=0.0)
        keeper, plan = PaceKeeper(engine, pacer, now=lambda: noon), pacer.plan
        assert isinstance(plan, PerPeriod)
        counts = np.repeat([40.0, 0.0], 12)
        plan.resume(at_s=noon.timestamp(), past=(), counts=counts, spent_usd=6.0, spent_before_usd=None)
        assert plan.account_usd(at_s=noon.timestamp()) == pytest.approx((6.0, 12.0))
        keeper.rebudget(48.0)
        plan.recount(at_s=noon.timestamp(), counts=counts, spent_usd=6.0)
        assert plan.account_usd(at_s=noon.timestamp()) == pytest.approx((6.0, 24.0))
    finally:
        engine.dispose()
