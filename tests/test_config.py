"""What a configuration may hold, wherever it comes from: file, environment, or both."""

import pytest
import yaml

from router_gateway import config
from router_gateway.core.errors import ConfigError

_PRICES = {"price_input_usd_per_mtok": 1, "price_output_usd_per_mtok": 2, "context_tokens_max": 8000}


def settings(**changes):
    endpoints = [{"name": name, "model": f"maker/{name}", "base_url": "http://127.0.0.1:1/v1"} for name in ("a", "b")]
    plain = {"default_endpoint": "a", "endpoints": [{**each, **_PRICES} for each in endpoints]}
    return {**plain, **changes}


@pytest.fixture
def load(tmp_path, monkeypatch):
    def load(environment=(), **changes):
        for name, value in dict(environment).items():
            monkeypatch.setenv(f"ROUTER_GATEWAY__{name}", value)
        file = tmp_path / "gateway.yaml"
        file.write_text(yaml.safe_dump(settings(**changes)))
        return config.load(file)

    return load


def problems(load, *args, **changes):
    with pytest.raises(ConfigError) as caught:
        load(*args, **changes)
    return caught.value.problems


def test_the_environment_wins_over_the_file(load):
    assert load({"DEFAULT_ENDPOINT": "b", "SERVER__PORT": "9000"}).default_endpoint == "b"


def test_what_the_environment_says_is_checked_against_the_file(load):
    assert problems(load, {"DEFAULT_ENDPOINT": "c"}) == ("default_endpoint: 'c' is not among the endpoints",)


def test_what_the_environment_puts_right_is_no_mistake(load):
    assert load({"DEFAULT_ENDPOINT": "a"}, default_endpoint="c").default_endpoint == "a"


def test_a_policy_that_only_the_environment_names_must_exist(load):
    (problem,) = problems(load, {"POLICY__NAME": "nonsense"})
    assert problem.startswith("policy: ")


@pytest.mark.parametrize("variable", ["SERVR__PORT", "FOO"])
def test_a_variable_of_no_setting_is_a_mistake(load, variable):
    assert problems(load, {variable: "1"}) == (f"ROUTER_GATEWAY__{variable}: unknown setting",)


def test_a_variable_that_is_no_json_is_named_without_its_value(load):
    (problem,) = problems(load, {"ENDPOINTS": "sk-secret"})
    assert "endpoints" in problem
    assert "sk-secret" not in problem


def test_all_mistakes_are_told_at_once(load):
    found = problems(load, {"FOO": "1"}, default_endpoint="c", server={"port": -1})
    assert [problem.partition(":")[0] for problem in found] == [
        "ROUTER_GATEWAY__FOO",
        "server.port",
        "default_endpoint",
    ]


def test_a_policy_is_configured_once(load):
    found = problems(load, other_policies=[{"name": "cheapest"}, {"name": "knn", "params": {"k": 3}}])
    assert found == ("other_policies.1.name: 'knn' is taken; a policy can be configured once",)


@pytest.mark.parametrize("name", ["auto", "knn", "cheapest"])
def test_no_endpoint_goes_by_the_name_of_a_policy_or_of_the_alias(load, name):
    endpoints = [{"name": name, "model": "m", "base_url": "http://127.0.0.1:1/v1", **_PRICES}]
    found = problems(load, endpoints=endpoints, default_endpoint=name, other_policies=[{"name": "cheapest"}])
    assert found == (f"endpoints.0.name: {name!r} is what clients call a policy, or the alias",)


def test_secrets_come_from_the_variables_that_are_named(load):
    loaded = load(endpoints=[{**settings()["endpoints"][0], "api_key_env": "MY_KEY"}])
    assert config.api_keys(loaded, {"MY_KEY": "sk-1"}) == {"a": "sk-1"}
    with pytest.raises(ConfigError, match="MY_KEY"):
        config.api_keys(loaded, {"MY_KEY": ""})
