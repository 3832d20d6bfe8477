"""The dial's own script, run in the browser by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from router_gateway.dashboard import dial

SCRIPT = (Path(dial.__file__).with_name("assets") / "rg_dial.js").read_text().replace("export default", "window.Dial =")


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.set_content("<p></p>")
    page.evaluate(f"() => {{ {SCRIPT} }}")
    yield page
    page.close()


def test_it_stays_where_it_is_when_the_same_place_is_said_again_and_goes_where_it_is_put(page):
    """Its range is said together with where it was put last."""
    told = """() => {
      const self = { ...Dial.methods, ...Dial.data.call({ put: [0.01, 1] }), put: [0.01, 1] };
      Object.assign(self, { draft: "0.00", wrong: true });
      self.worth = 0.003;
      Dial.watch.put.call(self, [0.01, 1]);
      const stayed = self.worth;
      Dial.watch.put.call(self, [0.01, 2]);
      return [stayed, self.worth, self.draft, self.wrong];
    }"""
    assert page.evaluate(told) == [0.003, 0.01, None, False]


def test_it_snaps_to_what_was_computed_and_jumps_from_one_to_the_next(page):
    told = """() => {
      const went = [];
      const self = { low: 0.001, high: 1, stops: [0.001, 0.0101, 0.2, 1], worth: 0.01 };
      self.go = (worth) => went.push(worth);
      self.at = Dial.methods.at.bind(self);
      Dial.methods.slide.call(self, { target: { value: String(self.at(0.01)) } });
      Dial.methods.slide.call(self, { target: { value: "200" } });
      for (const key of ["PageUp", "PageDown", "ArrowUp"]) Dial.methods.jump.call(self, { key, preventDefault() {} });
      return went;
    }"""
    snapped, free, after, before = page.evaluate(told)
    assert (snapped, after, before) == (0.0101, 0.0101, 0.001)
    assert free == pytest.approx(0.0316)
