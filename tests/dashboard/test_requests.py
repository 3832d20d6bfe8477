"""Requests in the browser: found, opened, decided again, rated; and what that left in the API and the database."""

from __future__ import annotations

import pytest

from tests.dashboard.site import Site
from tests.dashboard.tab import PHONE, Tab

BENIGN, MARK = "What does this do?", "__pwned"


def found(site: Site, **params):
    """What the API answers to the same question."""
    asked = "&".join(f"{name}={value}" for name, value in params.items())
    answer = site.api("GET", f"/requests?{asked}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def routed(site: Site, **params):
    """The newest of them that the policy's scores decided: other tests ask for endpoints by name."""
    return next(row for row in found(site, limit=200, **params)["data"] if row["reason"] == "scored")


def links(tab: Tab):
    """The requests in the table, by their ids, from top to bottom."""
    hrefs = tab.page.locator("table[aria-label=Requests] a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    return [href.removeprefix("/requests/") for href in hrefs]


def wait_for(tab: Tab, ids):
    """Until the table holds these."""
    tab.page.wait_for_function(
        """ids => JSON.stringify([...document.querySelectorAll("table[aria-label=Requests] a")]
            .map(a => a.getAttribute("href").slice(10))) === JSON.stringify(ids)""",
        arg=list(ids),
    )


def choose(tab: Tab, label: str, option: str):
    tab.page.get_by_label(label, exact=True).click()
    tab.page.get_by_role("option", name=option, exact=True).click()


def ids(page):
    return [row["id"] for row in page["data"]]


def test_the_list_is_that_of_the_api_and_leads_to_each(tab: Tab, site: Site):
    page = tab.goto("/requests")
    newest = found(site)
    wait_for(tab, ids(newest))
    prompt = page.locator("table[aria-label=Requests] tbody tr").first.locator("td").nth(1).bounding_box()
    assert prompt is not None
    assert prompt["width"] > 250, "the prompt has what room the other columns leave"
    page.locator("table[aria-label=Requests] a").first.click()
    page.wait_for_url(f"**/requests/{ids(newest)[0]}")
    tab.settle()
    assert newest["data"][0]["id"] in page.locator("#main").inner_text()


def test_older_ones_and_back(tab: Tab, site: Site):
    page = tab.goto("/requests")
    first = found(site)
    second = found(site, before=first["next_before"])
    page.get_by_role("button", name="Older").click()
    wait_for(tab, ids(second))
    assert "Page 2, 50 requests" in page.locator("#main").inner_text()
    page.get_by_role("button", name="Newer").click()
    wait_for(tab, ids(first))
    assert page.get_by_role("button", name="Newer").is_disabled()


def test_filters_narrow_it_down_and_are_lifted(tab: Tab, site: Site):
    page = tab.goto("/requests")
    choose(tab, "Outcome", "after a retry")
    retried = found(site, status="retried")
    assert retried["data"]
    wait_for(tab, ids(retried))
    choose(tab, "Endpoint", "large")
    wait_for(tab, ids(found(site, status="retried", endpoint="large")))
    choose(tab, "Outcome", "no answer yet")
    wait_for(tab, ids(found(site, status="open", endpoint="large")))
    page.get_by_role("button", name="Clear all filters").click()
    wait_for(tab, ids(found(site)))
    page.get_by_label("Cost from, USD").fill("0.02")
    wait_for(tab, ids(found(site, min_cost_usd="0.02")))
    page.get_by_label("Cost from, USD").fill("much")
    page.wait_for_selector("text=a number of dollars")


def test_an_id_a_session_and_words_are_found(tab: Tab, site: Site):
    one = found(site, q="HTTP", limit=1)["data"][0]
    page = tab.goto("/requests")
    page.keyboard.press("/")
    page.keyboard.type(one["id"])
    wait_for(tab, [one["id"]])
    page.get_by_label("Search").fill(one["session"])
    wait_for(tab, ids(found(site, q=one["session"])))
    page.get_by_label("Search").fill("http")
    wait_for(tab, ids(found(site, q="HTTP")))
    page.get_by_label("Search").fill("no such words anywhere")
    page.wait_for_selector("text=that were looked at")


def test_a_link_may_carry_filters(tab: Tab, site: Site):
    tab.goto("/requests?feedback=bad&status=nonsense&endpoint=%3Cb%3Egone")
    assert links(tab) == []
    tab.goto("/requests?feedback=bad")
    wait_for(tab, ids(found(site, feedback="bad")))
    assert tab.page.get_by_label("Rating", exact=True).input_value() == "rated bad"


def test_one_says_why_it_went_there(tab: Tab, site: Site):
    one = routed(site, feedback="any")
    told = site.api("GET", f"/requests/{one['id']}").json()
    page = tab.goto(f"/requests/{one['id']}")
    text = page.locator("#main").inner_text()
    chosen = next(row for row in told["candidates"] if row["chosen"])
    assert f"{one['endpoint']} was expected to be {chosen['quality'] * 100:.1f} % good" in text
    assert told["text"].split()[0] in text
    rows = page.locator("table[aria-label=Candidates]").first.locator("tbody tr")
    assert rows.count() == len(told["candidates"])
    assert f"{told['propensity'] * 100:.1f} %" in text
    assert told["policy"] in text
    assert page.locator("table[aria-label=Attempts] tbody tr").count() == len(told["attempts"])


def test_one_that_another_endpoint_answered_tells_both_tries(tab: Tab, site: Site):
    one = next(row for row in found(site, status="retried")["data"] if row["answered_by"] != row["endpoint"])
    page = tab.goto(f"/requests/{one['id']}")
    text = page.locator("#main").inner_text()
    assert f"after {one['endpoint']} was tried" in text
    assert "NaN" not in text
    rows = page.locator("table[aria-label=Attempts] tbody tr").all_inner_texts()
    assert [name in row for name, row in zip((one["endpoint"], one["answered_by"]), rows, strict=True)] == [True, True]


def test_another_dial_is_tried_without_a_trace(tab: Tab, site: Site):
    rows = found(site, endpoint="large", limit=200)["data"]
    one = next(row for row in rows if row["endpoint"] == "large" and row["requested_model"] == "auto")
    before = site.rows("SELECT count(*) FROM decisions"), site.rows("SELECT count(*) FROM attempts")
    page = tab.goto(f"/requests/{one['id']}")
    page.get_by_label("Worth of a perfect answer, USD").fill("0.00001")
    choose(tab, "Rule", "greedy")
    page.get_by_role("button", name="Decide again").click()
    page.wait_for_selector("text=nano instead of large")
    body = {"worth_usd": 0.00001, "rule": "greedy"}
    again = site.api("POST", f"/requests/{one['id']}/replay", body).json()
    assert (again["now"]["endpoint"], again["same_endpoint"]) == ("nano", False)
    told = page.locator("table[aria-label='Then and now']").inner_text()
    assert "$0.000010" in told
    page.get_by_label("Worth of a perfect answer, USD").fill("-1")
    page.get_by_role("button", name="Decide again").click()
    page.wait_for_selector("text=greater than 0")
    assert (site.rows("SELECT count(*) FROM decisions"), site.rows("SELECT count(*) FROM attempts")) == before


def test_a_rating_lands_in_the_ledger_and_is_taken_back(tab: Tab, site: Site):
    one = found(site, feedback="none", status="answered", limit=1)["data"][0]
    note = f'wrong <img src=x onerror="window.{MARK}=1"> & late'
    page = tab.goto(f"/requests/{one['id']}")
    assert "Nobody has rated it yet" in page.locator("#main").inner_text()
    page.get_by_label("Note").fill(note)
    page.get_by_role("button", name="Rate the answer bad").click()
    page.wait_for_selector("text=Your rating is in the ledger.")
    page.get_by_role("button", name="Take back this label rating").wait_for()
    (said,) = site.api("GET", f"/requests/{one['id']}").json()["feedback"]
    assert (said["quality"], said["source"], said["note"]) == (0.0, "label", note)
    kept = site.rows("SELECT quality, source, comment FROM feedback WHERE id = ?", said["id"].replace("-", ""))
    assert kept == [(0.0, "label", note)]
    tab.assert_inert(note)
    page.get_by_role("button", name="Take back this label rating").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Take back").click()
    page.wait_for_selector("text=The rating is taken back.")
    page.wait_for_selector("text=Nobody has rated it yet")
    assert site.api("GET", f"/requests/{one['id']}").json()["feedback"] == []
    gone = site.rows("SELECT count(*) FROM feedback_revocations WHERE id = ?", said["id"].replace("-", ""))
    assert gone == [(1,)]
    events = site.api("GET", "/events?action=request").json()["data"]
    assert [event["action"] for event in events[:2]] == ["request.feedback.revoke", "request.feedback"]


def test_a_score_needs_a_number(tab: Tab, site: Site):
    one = found(site, feedback="none", status="answered", limit=2)["data"][1]
    page = tab.goto(f"/requests/{one['id']}")
    give = page.get_by_role("button", name="Give the score")
    give.scroll_into_view_if_needed()
    place = give.bounding_box()
    give.click()
    page.wait_for_selector("text=a number from 0 to 1")
    assert give.bounding_box() == place, "the page jumps under the hand"
    page.get_by_label("Score, 0 to 1").fill("0.75")
    choose(tab, "As", "a user's word")
    page.get_by_role("button", name="Give the score").click()
    page.wait_for_selector("text=Your rating is in the ledger.")
    (said,) = site.api("GET", f"/requests/{one['id']}").json()["feedback"]
    assert (said["quality"], said["source"]) == (0.75, "user")


def test_a_viewer_sees_why_and_neither_words_nor_buttons(stranger: Tab, site: Site):
    key = site.api("POST", "/keys", {"name": "reader of requests", "role": "viewer"}).json()["secret"]
    one = routed(site, feedback="any")
    assert one["text"]
    stranger.sign_in(key)
    page = stranger.goto(f"/requests/{one['id']}")
    text = page.locator("#main").inner_text()
    assert "was expected to be" in text
    assert one["text"] not in text
    for name in ("Decide again", "Rate the answer good", "Take back"):
        assert page.get_by_role("button", name=name).count() == 0
    stranger.goto("/requests")
    wait_for(stranger, ids(found(site)))


def test_what_is_not_there_says_so(tab: Tab):
    for path in ("/requests/00000000-0000-7000-8000-000000000000", "/requests/7"):
        page = tab.goto(path)
        assert "No such request" in page.locator("#main").inner_text()


def test_hostile_prompts_and_names_are_text(tab: Tab, site: Site):
    tab.goto(f"/requests?q={MARK}")
    wait_for(tab, ids(found(site, q=MARK)))
    tab.assert_inert(BENIGN)
    hostile = {row["text"]: row for row in found(site, q=MARK, limit=200)["data"]}
    assert len(hostile) > 5
    for text, row in list(hostile.items())[:8]:
        tab.goto(f"/requests/{row['id']}")
        tab.assert_inert(text)
    tenant = next(row["tenant"] for row in found(site, limit=1000)["data"] if MARK in row["tenant"])
    page = tab.goto("/requests")
    page.get_by_label("Tenant").fill(tenant)
    page.wait_for_function("() => document.querySelector('table[aria-label=Requests]').innerText.includes('onerror')")
    tab.assert_inert(tenant)


@pytest.mark.parametrize("which", ["list", "one"])
def test_everybody_can_use_it(tab: Tab, site: Site, which: str):
    path = "/requests" if which == "list" else f"/requests/{found(site, feedback='any', limit=1)['data'][0]['id']}"
    page = tab.goto(path)
    if which == "one":
        page.get_by_role("button", name="Decide again").click()
        page.wait_for_selector("table[aria-label='Then and now']")
    tab.assert_fits()
    tab.assert_accessible()
    page.set_viewport_size(PHONE)
    tab.assert_inert()
