"""Signing in by an identity provider, from the browser to the trail, against a real one on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from tests.dashboard.provider import CLIENT_ID, CLIENT_SECRET, Provider, running
from tests.dashboard.site import Site, start_dashboard
from tests.dashboard.tab import Tab


@dataclass(kw_only=True)
class Organisation:
    """A dashboard whose people sign in at `provider`; `site` has it in the place of the other one."""

    provider: Provider
    site: Site

    def visitor(self) -> httpx.Client:
        """A browser without a screen: it keeps cookies, and follows where it is told to."""
        return httpx.Client(base_url=self.site.url, trust_env=False, timeout=30)

    def out_and_back(self, client: httpx.Client, path: str = "/login/oidc") -> httpx.Response:
        """The answer to who comes back from the provider."""
        away = client.get(path)
        assert away.status_code == 303, away.text
        assert away.headers["location"].startswith(f"{self.provider.url}/authorize?")
        back = httpx.get(away.headers["location"], trust_env=False).headers["location"]
        assert back.startswith(f"{self.site.url}/login/oidc/back?")
        return client.get(back)


@pytest.fixture(scope="module")
def organisation(site: Site) -> Iterator[Organisation]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = {
        role: site.api("POST", "/keys", {"name": f"pages {role}", "role": role}).json() for role in ("admin", "viewer")
    }
    with running() as provider:
        provider.honest("platform")
        settings = yaml.safe_load(site.world.config.read_text())
        settings["dashboard"] = {
            "oidc": {
                "issuer": provider.url,
                "client_id": CLIENT_ID,
                "client_secret_env": "TEST_OIDC_SECRET",
                "url": f"http://127.0.0.1:{port}",
                "admin_groups": ["platform"],
                "viewer_groups": ["finance"],
            }
        }
        config = site.world.directory / "organisation.yaml"
        config.write_text(yaml.safe_dump(settings))
        dashboard = start_dashboard(
            site.world.directory,
            site.gateway.base_url.removesuffix("/v1"),
            "--config",
            str(config),
            port=port,
            given={
                "TEST_OIDC_SECRET": CLIENT_SECRET,
                "ROUTER_GATEWAY_DASHBOARD_ADMIN_KEY": keys["admin"]["secret"],
                "ROUTER_GATEWAY_DASHBOARD_VIEWER_KEY": keys["viewer"]["secret"],
            },
        )
        try:
            yield Organisation(provider=provider, site=replace(site, dashboard=dashboard))
            told = dashboard.errors()
        finally:
            dashboard.stop()
        for secret in (CLIENT_SECRET, *(key["secret"] for key in keys.values())):
            assert secret not in told
        assert "Traceback" not in told


@pytest.fixture(autouse=True)
def _honest(organisation: Organisation):
    organisation.provider.honest("platform")


def flags_of(answer: httpx.Response, name: str) -> dict[str, str]:
    """The flags of a cookie that was set, by their names in small letters."""
    [said] = [each for each in answer.headers.get_list("set-cookie") if each.startswith(name)]
    parts = [part.strip().partition("=") for part in said.split(";")[1:]]
    return {flag.lower(): value for flag, _, value in parts}


def test_a_person_comes_in_with_cookies_that_only_this_site_gets(organisation):
    with organisation.visitor() as client:
        away = client.get("/login/oidc", params={"next": "/settings"})
        flags = flags_of(away, "rg_oidc")
        assert "httponly" in flags
        assert (flags["samesite"], flags["path"], flags["max-age"]) == ("lax", "/login/oidc", "600")
        answer = organisation.out_and_back(client, "/login/oidc?next=%2Fsettings")
        assert (answer.status_code, answer.headers["location"]) == (303, "/settings")
        flags = flags_of(answer, "rg_session")
        assert "httponly" in flags
        assert (flags["samesite"], flags["path"]) == ("lax", "/")
        assert client.get("/settings").status_code == 200
        signed_out = client.post("/logout", headers={"origin": organisation.site.url})
        assert signed_out.headers["location"] == "/login"
        assert client.get("/settings").headers["location"].startswith("/login")


def test_a_session_cookie_is_worth_nothing_after_the_sign_out(organisation):
    with organisation.visitor() as client:
        organisation.out_and_back(client)
        kept = {cookie.name: cookie.value for cookie in client.cookies.jar}
        client.post("/logout", headers={"origin": organisation.site.url})
    again = httpx.get(organisation.site.url + "/", cookies=kept, trust_env=False)
    assert (again.status_code, again.headers["location"]) == (303, "/login")


@pytest.mark.parametrize(
    ("lie", "said", "status"),
    [
        ({"nonce": "another"}, "not for this sign-in", 403),
        ({"aud": "another"}, "not for this sign-in", 403),
        ({"exp": 1_000}, "not for this sign-in", 403),
        ({"groups": ["guests"]}, "in no group that may use", 403),
    ],
)
def test_who_is_not_let_in_is_told_why_and_has_no_session(organisation, lie, said, status):
    organisation.provider.claims = lie
    with organisation.visitor() as client:
        answer = organisation.out_and_back(client)
        assert (answer.status_code, said in answer.text) == (status, True)
        assert not any(cookie.name.startswith("rg_session") for cookie in client.cookies.jar)
        assert client.get("/").status_code == 303


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example", "/\\evil.example", "/%0d%0aset-cookie:x=1"])
def test_a_sign_in_leads_nowhere_else(organisation, path):
    with organisation.visitor() as client:
        away = client.get("/login/oidc", params={"next": path})
        back = httpx.get(away.headers["location"], trust_env=False).headers["location"]
        answer = client.get(back)
        assert answer.status_code == 303
        target = urlsplit(answer.headers["location"])
        assert (target.scheme, target.netloc) == ("", "")
        assert answer.headers["location"].startswith("/")
        assert not answer.headers["location"].startswith(("//", "/\\"))
        assert "x" not in client.cookies


def test_what_another_browser_began_is_not_finished_here(organisation):
    with organisation.visitor() as mine, organisation.visitor() as theirs:
        away = theirs.get("/login/oidc")
        back = httpx.get(away.headers["location"], trust_env=False).headers["location"]
        answer = mine.get(back)
        assert (answer.status_code, "begun in another browser" in answer.text) == (400, True)
        assert mine.get("/").status_code == 303


def test_the_trail_names_the_person_and_the_dashboards_own_key(organisation, browser):
    site, provider = organisation.site, organisation.provider
    provider.honest("platform", email="zoë@example.com")
    with Tab.open(site, browser) as tab:
        tab.page.goto(site.url + "/login?next=/access")
        tab.page.get_by_role("link", name="Sign in with your organisation").click()
        tab.page.wait_for_url("**/access")
        tab.settle()
        assert "zoë@example.com" in tab.page.locator("header").inner_text()
        tab.page.get_by_role("button", name="New key").click()
        tab.page.get_by_role("dialog").get_by_label("Name", exact=True).fill("made by zoë")
        tab.page.get_by_role("button", name="Make the key").click()
        tab.page.locator(".rg-secret").wait_for()
        tab.complaints = [each for each in tab.complaints if not each.startswith(f"asked for {provider.url}")]
    (event,) = site.api("GET", "/events?action=key.create&limit=1").json()["data"]
    assert event["author"].startswith("zoë@example.com via pages admin (rg-")


def test_a_viewer_by_group_has_a_viewers_key_and_no_buttons(organisation, browser):
    site, provider = organisation.site, organisation.provider
    provider.honest("finance", email="cfo@example.com")
    with Tab.open(site, browser) as tab:
        tab.page.goto(site.url + "/login/oidc?next=/settings")
        tab.settle()
        tab.page.get_by_role("table", name="Settings in force").wait_for()
        assert tab.page.get_by_role("button", name="Change settings").count() == 0
        tab.complaints = [each for each in tab.complaints if not each.startswith(f"asked for {provider.url}")]


def test_the_form_offers_both_ways_to_everybody(organisation, browser):
    with Tab.open(organisation.site, browser) as tab:
        tab.page.goto(organisation.site.url + "/login?next=/access%22%3E%3Cimg%20src=x%20onerror=window.__pwned=1%3E")
        tab.page.get_by_role("link", name="Sign in with your organisation").wait_for()
        assert tab.page.get_by_label("Admin or viewer key").is_visible()
        tab.assert_accessible()
        tab.assert_fits()
        tab.assert_inert()
