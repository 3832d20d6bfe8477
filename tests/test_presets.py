"""A published system by its name: in a configuration and on evaluate's command line."""

import os

import pytest

from router_gateway.config import Config, load
from router_gateway.core.errors import ConfigError
from router_gateway.evaluation.command import Options, chosen_specs
from router_gateway.presets import PRESETS

REST = """
default_endpoint: a
endpoints:
  - {name: a, model: m, base_url: "http://x/v1", price_input_usd_per_mtok: 1, price_output_usd_per_mtok: 1,
     context_tokens_max: 1000}
"""


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith("ROUTER_GATEWAY")]:
        monkeypatch.delenv(name)


@pytest.fixture
def loaded(tmp_path):
    """`loaded(text)`: the configuration that says so, and the rest that it needs."""

    def read(text: str) -> Config:
        path = tmp_path / "gateway.yaml"
        path.write_text(text + REST)
        return load(path)

    return read


def test_a_preset_is_the_settings_it_stands_for(loaded):
    short = loaded("preset: carrot")
    long = loaded("policy: {name: knn}\ncost_model: learned\nrule: {name: greedy}")
    assert short.model_dump(exclude={"preset"}) == long.model_dump(exclude={"preset"})


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads(loaded, name):
    assert loaded(f"preset: {name}").preset == name


def test_what_the_file_and_the_environment_say_goes_first(loaded, monkeypatch):
    monkeypatch.setenv("ROUTER_GATEWAY__POLICY__NAME", "linear")
    told = loaded("preset: carrot\nrule: {name: inverse_gap, gamma: 5}")
    assert (told.policy.name, told.cost_model, told.rule.name) == ("linear", "learned", "inverse_gap")


def test_parameters_may_be_added_to_its_policy(loaded):
    assert loaded("preset: carrot\npolicy: {params: {k: 20}}").policy.params == {"k": 20}


def test_the_environment_may_name_it(loaded, monkeypatch):
    monkeypatch.setenv("ROUTER_GATEWAY__PRESET", "carrot")
    assert loaded("worth_usd: 0.1").cost_model == "learned"


def test_one_that_is_none_is_told(loaded):
    with pytest.raises(ConfigError) as caught:
        loaded("preset: rabbit")
    assert any(problem.startswith("preset: ") for problem in caught.value.problems)


def test_evaluate_knows_them_by_name():
    plain, tuned, priced = chosen_specs(Options(policies=("carrot", "carrot:k=20", "carrot@mean")))
    assert (plain.name, plain.params, plain.cost, plain.label) == ("knn", {}, "learned", "carrot")
    assert (tuned.name, tuned.params, tuned.cost) == ("knn", {"k": 20}, "learned")
    assert priced.cost == "mean"
