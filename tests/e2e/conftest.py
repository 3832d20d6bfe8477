import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest

from tests.e2e import process, upstream, world
from tests.ledger.conftest import postgres, postgres_server, postgres_url  # noqa: F401 - fixtures

_HERE = Path(__file__).parent
_SLOW = {"test_demo.py", "test_chaos.py"}


def pytest_collection_modifyitems(config, items):
    """What takes most of a minute is for `make e2e` and CI."""
    asked = "CI" in os.environ or any("e2e" in argument for argument in config.args)
    for item in items:
        if item.path.parent == _HERE:
            item.add_marker(pytest.mark.e2e)
        if item.path.parent == _HERE and item.path.name in _SLOW and not asked:
            item.add_marker(pytest.mark.skip(reason="takes a minute: run by `make e2e` and in CI"))


@dataclass(kw_only=True)
class Site:
    """A running gateway, the provider behind some of its endpoints, and its ledger."""

    gateway: process.GatewayProcess
    provider: upstream.Provider
    ledger: world.LedgerRows
    directory: Path
    recorded: tuple[world.Recorded, ...] = field(default_factory=world.recorded)

    def of(self, difficulty: str) -> world.Recorded:
        """A prompt that the policy was fitted on."""
        return next(each for each in self.recorded if each.difficulty == difficulty)

    def client(self, **options) -> openai.OpenAI:
        """The official client, told not to retry."""
        http = openai.DefaultHttpxClient(trust_env=False)
        settings = {"api_key": self.gateway.key, "max_retries": 0, "http_client": http, **options}
        return openai.OpenAI(base_url=self.gateway.base_url, **settings)

    def async_client(self) -> openai.AsyncOpenAI:
        http = openai.DefaultAsyncHttpxClient(trust_env=False)
        settings = {"api_key": self.gateway.key, "max_retries": 0, "http_client": http}
        return openai.AsyncOpenAI(base_url=self.gateway.base_url, **settings)


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Iterator[Site]:
    """A gateway with the real encoder: three replayed models, and six endpoints at one odd provider."""
    directory = tmp_path_factory.mktemp("site")
    world.write_outcomes(directory / "outcomes.jsonl")
    with upstream.providing() as provider:
        pool = [world.endpoint(name, "replay") for name in world.PRICES]
        pool += [
            world.endpoint(name, provider.base_url(name), offers=["json", "tools"]) for name in upstream.BEHAVIOURS
        ]
        pool[2]["offers"] = ["json", "tools"]
        pool[3] |= {"price_cached_input_usd_per_mtok": 0.5, "price_cache_write_usd_per_mtok": 2.5}
        deadline = {"port": 0, "routing_deadline_ms": 20_000}  # a busy machine is not what is tested here
        config = world.write_config(directory, pool, server=deadline)
        gateway = process.start(directory, "--config", str(config))
        ledger = world.LedgerRows(f"sqlite:///{directory}/state/ledger.db")
        try:
            yield Site(gateway=gateway, provider=provider, ledger=ledger, directory=directory)
        finally:
            code = gateway.stop()
        assert code == 0
        assert "Traceback" not in gateway.errors()


@pytest.fixture
def client(site) -> Iterator[openai.OpenAI]:
    with site.client() as client:
        yield client
