"""From figures to intervals, verdicts and the page."""

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("performance")


def test_ratios_are_paired_by_round():
    """A machine that is ten times slower in one round changes both of its runs, and not their ratio."""
    from performance.intervals import paired_ratio

    speed = np.array([1.0, 0.1, 3.0, 0.5, 1.7])
    found = paired_ratio((20 * speed).tolist(), (4 * speed).tolist())
    assert found["median"] == pytest.approx(5.0)
    assert (found["low"], found["high"]) == pytest.approx((5.0, 5.0))


def test_an_interval_holds_its_median_and_no_more_than_the_rounds():
    from performance.intervals import summary

    found = summary([3.0, 1.0, 2.0, 9.0, 4.0])
    assert found["median"] == 3.0
    assert 1.0 <= found["low"] <= found["median"] <= found["high"] <= 9.0
    assert found["rounds"] == [3.0, 1.0, 2.0, 9.0, 4.0]


def test_goals_are_judged_in_the_right_direction():
    from performance.goals import goals
    from performance.intervals import summary

    results = {
        "http": {
            "scenarios": {"c16": {"routed": {"rss_mib": summary([400.0])}}},
            "ratios": {
                "c1": {"routed/litellm": {"p50_ms": summary([0.04]), "rps": summary([1.0])}},
                "c16": {"routed/litellm": {"rps": summary([26.0])}, "routed/portkey": {"rps": summary([2.9])}},
            },
        },
        "start": {"routed": {"mapped": ["libtorch"]}},
        "parts": {"ledger": {"sqlite": {"rows_per_s": 21_000.0}}},
    }
    met = {goal.text: goal.met for goal in goals(results)}
    assert met["at least 25 times LiteLLM's throughput at 16 connections"] is True
    assert met["at most 1/20 of LiteLLM's median latency at one connection"] is True
    assert met["at least 3 times Portkey's throughput at 16 connections"] is False
    assert met["a worker under 350 MiB"] is False
    assert met["torch is not loaded (0: it is not)"] is False
    assert met["the ledger writes at least 20,000 rows a second to SQLite"] is True
    assert met["at least 50 times LiteLLM's 50-chunk streams at 16 connections"] is None  # not measured


def test_texts_are_distinct_and_as_long_as_asked():
    from performance.texts import _tokenizer, texts

    found = texts(300, tokens=100, seed=5)
    assert len(set(found)) == 300
    assert found == texts(300, tokens=100, seed=5)
    lengths = [len(ids) for ids in (encoding.ids for encoding in _tokenizer().encode_batch(found))]
    assert 98 <= np.median(lengths) <= 102


def test_a_page_without_its_marks_is_left_alone(tmp_path):
    from performance.page import BEGIN, END, write_page
    from performance.problems import BenchmarkError

    page = tmp_path / "page.md"
    for text in ("nothing", f"{END}\n{BEGIN}", BEGIN):
        page.write_text(text)
        with pytest.raises(BenchmarkError, match="must be there"):
            write_page({}, page)
        assert page.read_text() == text
