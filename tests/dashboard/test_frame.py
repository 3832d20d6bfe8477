"""Signing in and out, and what stands around every page."""

from __future__ import annotations

import re

import httpx
import pytest

from router_gateway.dashboard.pages import PAGES
from tests.dashboard.tab import PHONE, Tab


def ask(site, method="GET", path="/", **headers):
    return httpx.request(method, site.url + path, headers=headers, trust_env=False, follow_redirects=False)


def test_without_a_session_every_page_leads_to_the_form(site):
    for page in PAGES:
        path = page.path.replace("{", "").replace("}", "")
        answer = ask(site, path=path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")


def test_every_answer_carries_the_headers_that_keep_others_out(site):
    for path in ("/login", "/", "/assets/theme.css", "/nowhere"):
        headers = ask(site, path=path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe-inline" not in headers["content-security-policy"].split("style-src")[0]
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_another_site_can_sign_nobody_in_or_out(site, origin):
    for path in ("/login", "/logout"):
        assert ask(site, "POST", path, origin=origin).status_code == 403
    assert ask(site, "POST", "/login").status_code == 403, "a browser always says where a form comes from"
    socket = ask(site, path="/_nicegui_ws/socket.io/?EIO=4&transport=polling", origin=origin)
    assert socket.status_code == 403


def test_a_key_opens_the_pages_and_never_reaches_the_browser(stranger: Tab, site):
    page = stranger.page
    stranger.sign_in(site.world.admin_key)
    [cookie] = [c for c in stranger.context.cookies() if c["name"].startswith("rg_session")]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    assert site.world.admin_key not in cookie["value"]
    kept = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    assert site.world.admin_key not in kept + page.content()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login")
    page.goto(site.url + "/")
    assert page.url.endswith("/login")


def test_a_page_that_stays_open_ends_with_the_session(tab: Tab, site):
    tab.goto("/")
    other = tab.context.new_page()
    other.goto(site.url + "/")
    other.get_by_role("button", name="Sign out").click()
    tab.page.wait_for_url("**/login")


@pytest.mark.parametrize(
    ("key", "said"),
    [("rg-nobody", "unknown or was revoked"), ("", "admin key"), ("ordinary", "does not open the admin")],
)
def test_a_wrong_key_is_told_why(site, key, said):
    key = site.world.user_key if key == "ordinary" else key
    answer = httpx.post(site.url + "/login", data={"key": key}, headers={"origin": site.url}, trust_env=False)
    assert answer.status_code in (400, 401, 403)
    assert said in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example", "/\\evil.example", "/ok\n", "javascript:1"])
def test_the_form_leads_nowhere_else(site, path):
    given = {"key": site.world.admin_key, "next": path}
    answer = httpx.post(site.url + "/login", data=given, headers={"origin": site.url}, trust_env=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"


def test_the_form_can_be_used_by_everybody(stranger: Tab, site):
    stranger.page.goto(site.url + "/login?next=/%22%3E%3Cscript%3Ewindow.__pwned=1%3C/script%3E")
    stranger.assert_accessible()
    stranger.assert_fits()
    stranger.assert_inert()


def test_the_keyboard_reaches_everything(tab: Tab):
    page = tab.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("?")
    assert page.locator("#rg-shortcuts").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#rg-shortcuts").is_visible()
    page.evaluate("document.querySelector('.rg-nav a').setAttribute('data-here', '')")
    page.keyboard.press("g")
    page.keyboard.press("o")
    page.wait_for_selector(".rg-nav a:not([data-here])")


def test_the_theme_is_kept(tab: Tab):
    page = tab.goto("/")
    back = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(back)
    page.get_by_role("button", name="Theme: automatic").click()
    assert page.get_by_role("button", name="Theme: dark").is_visible()
    dark = page.evaluate(back)
    assert dark != light
    tab.goto("/")
    assert page.evaluate(back) == dark
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Admin or viewer key").wait_for()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_on_a_phone_the_navigation_is_a_drawer(tab: Tab):
    page = tab.goto("/")
    page.set_viewport_size(PHONE)
    assert not page.get_by_role("link", name="Overview").is_visible()
    page.get_by_role("button", name="Pages").click()
    assert page.get_by_role("link", name="Overview").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("link", name="Overview").is_visible()


def test_nothing_jumps_while_a_page_fills_in(tab: Tab, site):
    page = tab.page
    page.add_init_script(
        "window.__shift = 0; new PerformanceObserver((list) => { for (const e of list.getEntries())"
        " if (!e.hadRecentInput) window.__shift += e.value; }).observe({type: 'layout-shift', buffered: true})"
    )
    tab.goto("/")
    assert page.evaluate("window.__shift") < 0.1, "what browsers call good"


def test_a_path_that_is_no_page_says_so(tab: Tab, site):
    answer = tab.page.goto(site.url + "/nowhere")
    assert answer is not None
    assert answer.status == 404
    assert re.search("404|not found", tab.page.content(), re.IGNORECASE)
    tab.complaints.clear()  # the browser notes the 404
