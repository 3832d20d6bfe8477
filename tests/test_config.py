"""The configuration: files, environment, and every mistake reported at once with its path."""

import os
from decimal import Decimal
from pathlib import Path

import pytest

from router_gateway import config as configuration
from router_gateway.config import Config, api_keys, load
from router_gateway.core.errors import ConfigError

REPOSITORY = Path(__file__).parents[1]
MINIMAL = """
default_endpoint: a
endpoints:
  - {name: a, model: openai/gpt-x, price_input_usd_per_mtok: 0.15, price_output_usd_per_mtok: 0.6,
     context_tokens_max: 1000, api_key_env: TEST_PROVIDER_KEY}
"""


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith("ROUTER_GATEWAY")]:
        monkeypatch.delenv(name)


@pytest.fixture
def written(tmp_path):
    """`written(text)`: the text as a configuration file."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "gateway.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def problems_of(path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.problems


def test_the_annotated_example_loads():
    loaded = load(REPOSITORY / "gateway.example.yaml")
    assert [e.name for e in loaded.endpoints] == ["small", "claude", "local"]
    built = [e.build() for e in loaded.endpoints]
    assert [e.protocol for e in built] == ["openai", "litellm", "openai"]
    assert built[0].base_url == "https://api.openai.com/v1"
    assert built[0].model == "gpt-4o-mini"
    assert built[1].model == "anthropic/claude-sonnet-4-5"
    assert built[0].price_cached_input_usd_per_mtok == Decimal("0.075")
    assert built[0].price_cache_write_usd_per_mtok == Decimal("0.15")


def test_the_example_names_every_setting():
    """A setting that is missing from the example is one that nobody finds."""
    text = (REPOSITORY / "gateway.example.yaml").read_text()

    def names(model):
        for name, field in model.model_fields.items():
            yield name
            for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if isinstance(kind, type) and hasattr(kind, "model_fields"):
                    yield from names(kind)

    missing = [name for name in names(Config) if f"{name}:" not in text]
    assert missing == []


def test_the_demo_loads_without_a_key():
    demo = load(None)
    assert all(e.base_url == configuration.REPLAY for e in demo.endpoints)
    assert api_keys(demo, {}) == {}
    assert demo.policies[0].name == "knn"


def test_what_is_left_out_has_its_default(written):
    loaded = load(written(MINIMAL))
    assert loaded.server.port == 8080
    assert loaded.rule.name == "greedy"
    assert loaded.ledger_url == "sqlite:///.router-gateway/ledger.db"


def test_all_mistakes_are_reported_at_once_with_their_paths(written):
    path = written("""
server: {port: 99999, prot: 1}
policy: {name: knn, params: {k: 0}}
default_endpoint: nobody
worth_usd: -1
endpoints:
  - {name: a, model: m, price_input_usd_per_mtok: -1, price_output_usd_per_mtok: 1, context_tokens_max: 10}
  - {name: a, model: m, price_input_usd_per_mtok: 1, price_output_usd_per_mtok: 1, context_tokens_max: 10}
""")
    problems = problems_of(path)
    paths = {problem.partition(":")[0] for problem in problems}
    assert paths == {
        "server.port",
        "server.prot",
        "policy",
        "default_endpoint",
        "worth_usd",
        "endpoints.0.price_input_usd_per_mtok",
        "endpoints.1.name",
    }
    assert len(problems) == 7
    assert "server.prot: unknown setting" in problems
    assert any(problem.startswith("policy: knn.k: ") for problem in problems)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("default_endpoint: a\nserver: {port: 1}\nserver: {port: 2}\n", "line 3: the key 'server' stands twice"),
        ("server: {port: 1, host: x, port: 2}\n", "the key 'port' stands twice"),
        ("a: [1\n", "line 2"),
        ("- 1\n", "must be a mapping"),
        ("", "must be a mapping"),
        ("? [a, b]\n: 1\n", "line 1"),
        ("? {a: b}\n: 1\n", "line 1"),
        (b"a: \xff", "is not UTF-8"),
        ("a: !!python/object/apply:os.system [echo]\n", "could not determine a constructor"),
    ],
)
def test_what_is_not_a_mapping_in_yaml_is_told(written, text, told):
    [problem] = problems_of(written(text))
    assert told in problem


def test_a_missing_file_is_told(tmp_path):
    [problem] = problems_of(tmp_path / "none.yaml")
    assert "No such file" in problem


@pytest.mark.parametrize(
    ("judging", "told"),
    [
        ("{share: 0.1}", "judging.judges: names nobody, so nobody can judge"),
        (
            "{share: 0.1, judges: [a], params: {stream: true}}",
            "judging.params: value error, 'stream' is not for the configuration to say",
        ),
        ("{pairs_share: 0.1, judges: [a, b]}", "judging.judges.1: 'b' is not among the endpoints"),
    ],
)
def test_judges_are_endpoints(written, judging, told):
    assert problems_of(written(f"{MINIMAL}judging: {judging}\n")) == (told,)
    assert load(written(MINIMAL + "judging: {share: 0.1, judges: [a]}\n")).judging.enabled
    assert not load(written(MINIMAL + "judging: {judges: [a]}\n")).judging.enabled


def test_the_environment_wins_over_the_file(written, monkeypatch):
    path = written(MINIMAL + "server: {port: 1, host: from-file}\n")
    monkeypatch.setenv("ROUTER_GATEWAY__SERVER__PORT", "9000")
    monkeypatch.setenv("ROUTER_GATEWAY__WORTH_USD", "0.5")
    monkeypatch.setenv("ROUTER_GATEWAY__STATE_DIR", "elsewhere")
    loaded = load(path)
    assert (loaded.server.port, loaded.server.host, loaded.worth_usd) == (9000, "from-file", 0.5)
    assert loaded.ledger_url == "sqlite:///elsewhere/ledger.db"


@pytest.mark.parametrize(
    ("variable", "value", "path"),
    [
        ("ROUTER_GATEWAY__SERVER__PORT", "many", "server.port"),
        ("ROUTER_GATEWAY__SERVER__PROT", "1", "server.prot"),
        ("ROUTER_GATEWAY__WROTH_USD", "1", "ROUTER_GATEWAY__WROTH_USD"),
        ("ROUTER_GATEWAY__DEFAULT_ENDPOINT", "nobody", "default_endpoint"),
        ("ROUTER_GATEWAY__POLICY__NAME", "nobody", "policy"),
    ],
)
def test_mistakes_in_the_environment_are_told_as_those_in_the_file(written, monkeypatch, variable, value, path):
    monkeypatch.setenv(variable, value)
    problems = problems_of(written(MINIMAL))
    assert [problem.partition(":")[0] for problem in problems] == [path]


def test_a_variable_that_is_no_json_is_named_without_its_value(written, monkeypatch):
    monkeypatch.setenv("ROUTER_GATEWAY__ENDPOINTS", "sk-secret")
    [problem] = problems_of(written(MINIMAL))
    assert "endpoints" in problem
    assert "sk-secret" not in problem


def test_a_mistake_in_the_file_that_the_environment_mends_is_none(written, monkeypatch):
    path = written(MINIMAL.replace("default_endpoint: a", "default_endpoint: nobody"))
    monkeypatch.setenv("ROUTER_GATEWAY__DEFAULT_ENDPOINT", "a")
    assert load(path).default_endpoint == "a"


def test_a_missing_provider_key_names_its_variable(written):
    loaded = load(written(MINIMAL))
    with pytest.raises(ConfigError) as caught:
        api_keys(loaded, {})
    assert caught.value.problems == ("endpoints.a.api_key_env: the environment variable TEST_PROVIDER_KEY is not set",)
    with pytest.raises(ConfigError, match="TEST_PROVIDER_KEY"):
        api_keys(loaded, {"TEST_PROVIDER_KEY": ""})
    assert api_keys(loaded, {"TEST_PROVIDER_KEY": "sk-1"}) == {"a": "sk-1"}


def test_secrets_do_not_show_in_what_is_printed(written, monkeypatch):
    monkeypatch.setenv("TEST_PROVIDER_KEY", "sk-printed-never")
    secret = "postgresql://user:hunter2@host/name"
    loaded = load(written(MINIMAL + f'ledger: {{url: "{secret}"}}\n'))
    for shown in (repr(loaded), str(loaded), repr(loaded.ledger), loaded.model_dump_json()):
        assert "hunter2" not in shown
        assert "sk-printed-never" not in shown
    assert loaded.ledger_url == secret


def test_a_wrong_secret_is_not_quoted_in_the_error(written):
    problems = problems_of(written(MINIMAL + 'ledger: {url: ["postgresql://u:hunter2@h/n"]}\n'))
    assert "hunter2" not in "\n".join(problems)


def test_a_replayed_endpoint_needs_something_to_replay(written):
    text = MINIMAL.replace("api_key_env: TEST_PROVIDER_KEY", "base_url: replay")
    assert problems_of(written(text)) == ('endpoints.0.base_url: "replay" needs the section `replay`',)


@pytest.mark.parametrize("name", ["auto", "clusters", "cheapest"])
def test_no_endpoint_goes_by_the_name_of_a_policy_or_of_the_alias(written, name):
    renamed = MINIMAL.replace("name: a,", f"name: {name},").replace("endpoint: a", f"endpoint: {name}")
    problems = problems_of(written(renamed + "other_policies: [{name: cheapest}]\n"))
    assert problems == (f"endpoints.0.name: {name!r} is what clients call a policy, or the alias",)


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ("rule: {name: nonsense}", "rule"),
        ("rule: {name: inverse_gap, gamma: -1}", "rule.gamma"),
        ("rule: {name: greedy, gamma: 1}", "rule.gamma"),
        ("worth_usd: .nan", "worth_usd"),
        ("worth_usd: .inf", "worth_usd"),
        ("optimism: .nan", "optimism"),
        ("other_policies: [{name: nobody}]", "other_policies.0"),
        ("other_policies: [{name: clusters}]", "other_policies.0.name"),
        ("replay: {speed: .inf}", "replay.speed"),
        ("guard: {novelty_stddev_max: .nan}", "guard.novelty_stddev_max"),
    ],
)
def test_each_setting_is_checked(written, settings, path):
    problems = problems_of(written(MINIMAL + settings + "\n"))
    assert [problem.partition(":")[0] for problem in problems] == [path]


def test_a_configuration_cannot_be_changed_in_flight(written):
    loaded = load(written(MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        loaded.worth_usd = 1.0
    with pytest.raises(ValueError, match="frozen"):
        loaded.server.port = 1


def test_what_is_shown_of_the_configuration_holds_no_secret(written, monkeypatch):
    text = MINIMAL + 'ledger: {url: "postgresql://me:hunter2@db/ledger"}\n'
    monkeypatch.setenv("TEST_PROVIDER_KEY", "sk-secret")
    shown = load(written(text.replace("api_key_env", "base_url: 'http://user:hunter2@host/v1', api_key_env"))).shown()
    assert shown["endpoints"][0]["base_url"] == "http://***@host/v1"
    assert shown["endpoints"][0]["api_key_env"] == "TEST_PROVIDER_KEY"
    assert "hunter2" not in str(shown)
    assert "sk-secret" not in str(shown)
