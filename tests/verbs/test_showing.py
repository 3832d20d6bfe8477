"""How the dashboard's process learns of an identity provider."""

import pytest
import yaml

from router_gateway import config as configuration
from router_gateway.config import Oidc
from router_gateway.core.errors import ConfigError
from router_gateway.verbs.showing import _provider

SECTION = {
    "issuer": "https://login.example.com",
    "client_id": "gateway",
    "client_secret_env": "TEST_OIDC_SECRET",
    "url": "https://pages.example.com/",
    "admin_groups": ["platform"],
    "viewer_groups": ["finance"],
}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch):
    monkeypatch.setenv("TEST_OIDC_SECRET", "s3cret")
    monkeypatch.setenv("ROUTER_GATEWAY_DASHBOARD_ADMIN_KEY", "rg-admin")
    monkeypatch.setenv("ROUTER_GATEWAY_DASHBOARD_VIEWER_KEY", "rg-viewer")


def test_serve_hands_the_section_on_without_its_secrets():
    said = Oidc(**SECTION).model_dump_json()
    assert "s3cret" not in said
    assert "rg-" not in said
    found = _provider(None, said)
    assert (found.issuer, found.client_secret, found.admin_key) == ("https://login.example.com", "s3cret", "rg-admin")
    assert (found.admin_groups, found.viewer_groups) == (("platform",), ("finance",))
    assert found.back_url == "https://pages.example.com/login/oidc/back"
    assert _provider(None, "") is None


def test_secrets_that_are_not_there_are_all_named(monkeypatch):
    for name in ("TEST_OIDC_SECRET", "ROUTER_GATEWAY_DASHBOARD_VIEWER_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(ConfigError) as caught:
        _provider(None, Oidc(**SECTION).model_dump_json())
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "dashboard.oidc.client_secret_env",
        "dashboard.oidc.viewer_key_env",
    ]
    monkeypatch.setenv("TEST_OIDC_SECRET", "s3cret")
    assert _provider(None, Oidc(**{**SECTION, "viewer_groups": []}).model_dump_json()).viewer_key is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("issuer", "http://login.example.com"), ("url", "ftp://x"), ("client_id", ""), ("secret", "in the file")],
)
def test_a_section_that_is_not_safe_is_refused_by_path(tmp_path, name, value):
    pool = [{"name": "a", "model": "m", "base_url": "http://127.0.0.1:9/v1", "context_tokens_max": 1_000}]
    pool[0] |= {"price_input_usd_per_mtok": 1, "price_output_usd_per_mtok": 1}
    path = tmp_path / "gateway.yaml"
    settings = {"default_endpoint": "a", "endpoints": pool, "dashboard": {"oidc": {**SECTION, name: value}}}
    path.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError) as caught:
        configuration.load(path)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [f"dashboard.oidc.{name}"]
