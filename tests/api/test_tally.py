"""Counts and histograms that cost a dictionary's entry, as Prometheus reads them."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from router_gateway.api.tally import Counts, Spread


def scraped(collector):
    registry = CollectorRegistry()
    registry.register(collector)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_counts_add_up_by_label():
    counts = Counts("asked", "questions", ["who"])
    counts.add("a")
    counts.add("a", by=2.5)
    counts.add("b")
    assert scraped(counts) == {("asked_total", (("who", "a"),)): 3.5, ("asked_total", (("who", "b"),)): 1.0}


@pytest.mark.parametrize(("value", "counted"), [(0.5, [1, 1, 1]), (1.0, [1, 1, 1]), (1.5, [0, 1, 1]), (9.0, [0, 0, 1])])
def test_a_bound_is_inclusive_and_buckets_cumulate(value, counted):
    spread = Spread("took_seconds", "time", ["stage"], bounds=(1.0, 2.0))
    spread.observe(value, "embed")
    found = scraped(spread)
    buckets = [found["took_seconds_bucket", (("le", le), ("stage", "embed"))] for le in ("1.0", "2.0", "+Inf")]
    assert buckets == counted
    assert found["took_seconds_sum", (("stage", "embed"),)] == value
    assert found["took_seconds_count", (("stage", "embed"),)] == 1


def test_a_spread_without_labels():
    spread = Spread("share", "", [], bounds=(0.5,))
    spread.observe(0.25)
    spread.observe(0.75)
    assert scraped(spread)["share_bucket", (("le", "+Inf"),)] == 2
    assert scraped(spread)["share_sum", ()] == 1.0
