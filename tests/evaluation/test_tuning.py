"""Tuning on outcome files: what is promised, what is refused, and that routing does what was promised."""

import json
import re
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import yaml

from router_gateway import registry
from router_gateway.core.errors import ConfigError, DataError, RequestError
from router_gateway.core.experience import Experience
from router_gateway.core.types import Endpoint, NamedPolicy
from router_gateway.evaluation import tuning_report
from router_gateway.evaluation.conformal import Promise, certify
from router_gateway.evaluation.embeddings import Encoder
from router_gateway.evaluation.prepared import load_tables, prepare
from router_gateway.evaluation.replay import route_offline
from router_gateway.evaluation.splits import hash_order
from router_gateway.evaluation.sweep import MeanCost
from router_gateway.evaluation.tuning import Setting, ask, dials, tune, tune_source
from router_gateway.routing.router import Router
from router_gateway.routing.rules import EpsilonGreedy, Greedy

PRICES = {"small": 0.0001, "medium": 0.001, "large": 0.01}
KNN = Setting(encoder=Encoder(kind="hashing"), params={"k": 20})
HASHING = Setting(encoder=Encoder(kind="hashing"), policy="best_on_average")


@contextmanager
def quiet(label):
    yield lambda done, total: None


def write(path, queries, *, seed=0, endpoints=tuple(PRICES), first=0, **changed):
    """Sums, which everybody can do, and contracts, which only `large` reads well."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(first, first + queries):
        sums = number % 2 == 0
        prompt = f"What is the sum of {number} and two?" if sums else f"Summarise clause {number} of this contract."
        for model in endpoints:
            skill = 0.9 if sums or model == "large" else 0.3
            row = {
                "dataset": "made",
                "task": "sums" if sums else "law",
                "sample_id": str(number),
                "prompt": prompt,
                "model": model,
                "score": float(rng.random() < skill),
                "cost_usd": PRICES[model],
                "input_tokens": 10,
                "output_tokens": 100,
            }
            lines.append(json.dumps(row | changed) + "\n")
    path.write_text("".join(lines))
    return str(path)


@pytest.fixture
def tuned(tmp_path):
    """`tuned(source, floor, ...)`: the finding, with vectors in a folder of the test's own."""

    def run(source, floor=0.9, *, of="best-single", confidence=0.9, setting=KNN, **more):
        promise = Promise(floor=floor, of=of, confidence=confidence)
        return tune_source(source, promise, setting, cache=tmp_path / "vectors", progress=quiet, **more)

    return run


@pytest.fixture
def prepared_of(tmp_path):
    """`prepared_of(queries)`: a set made ready."""

    def build(queries, **changed):
        source = write(tmp_path / "set.jsonl", queries, **changed)
        return prepare("set", load_tables(source)[0][1], encoder=KNN.encoder, cache=tmp_path / "vectors")

    return build


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "made.jsonl", 1600)


def test_the_picked_dial_sends_easy_queries_to_the_cheap_endpoint(tuned, source):
    found = tuned(source)
    assert found.best_single == "large"
    assert found.worth_usd is not None
    assert found.saving == pytest.approx(0.5, abs=0.05)
    assert found.quality >= 0.9 * found.best_single_quality
    assert 0 < found.p_value <= 0.1
    assert 0 < found.certificate.certified < found.dials
    assert found.queries_fitted + found.queries_calibrated == 1600


def test_a_floor_of_nothing_is_kept_by_the_cheapest(tuned, source):
    found = tuned(source, 0.0)
    assert found.cost_usd == pytest.approx(PRICES["small"])
    assert found.certificate.certified == found.dials


def test_what_nobody_reaches_is_not_certified_and_more_queries_would_not_help(tuned, source):
    found = tuned(source, 0.999, of="absolute")
    assert found.worth_usd is None
    assert found.certificate.queries_needed is None
    told = "\n".join(tuning_report.lines(found))
    assert "Not certified: expected quality is at least 0.999" in told
    assert "More queries would not help" in told
    assert tuning_report.snippet(found) == ""


def test_too_few_queries_are_too_few_and_the_finding_says_how_many_it_takes(tuned, tmp_path):
    found = tuned(write(tmp_path / "few.jsonl", 40), setting=HASHING)
    assert found.worth_usd is None
    needed = found.certificate.queries_needed
    assert needed is not None
    assert needed > found.queries_calibrated
    assert f"About {needed:,} calibration queries" in "\n".join(tuning_report.lines(found))
    many = write(tmp_path / "many.jsonl", 6 * needed)
    assert tuned(many, setting=HASHING).worth_usd is not None


def test_each_reference_is_what_it_says(tuned, source):
    found = {of: tuned(source, 0.5, of=of) for of in ("best-single", "oracle", "absolute", "small")}
    quality = {of: one.reference_quality for of, one in found.items()}
    assert quality["absolute"] == 1.0
    assert quality["best-single"] == found["small"].best_single_quality == pytest.approx(0.9, abs=0.05)
    assert quality["small"] == pytest.approx(0.6, abs=0.06)
    assert quality["best-single"] < quality["oracle"] < 1.0
    assert found["oracle"].cost_usd >= found["small"].cost_usd


def test_the_best_single_endpoint_is_chosen_where_the_policy_learned(tuned, tmp_path):
    learned = write(tmp_path / "learned.jsonl", 200)
    other = tmp_path / "other.jsonl"
    write(other, 200, first=200)
    rows = [json.loads(line) for line in other.read_text().splitlines()]
    other.write_text("".join(json.dumps(row | {"score": float(row["model"] == "small")}) + "\n" for row in rows))
    found = tuned(str(other), 0.5, fit_on=learned)
    assert (found.best_single, found.best_single_quality) == ("large", 0.0)


def test_the_promise_is_kept(prepared_of):
    """Five hundred calibrations, each on a fresh draw from two thousand queries whose mean is the truth."""
    prepared = prepared_of(2500)
    rows = np.argsort(hash_order(prepared.table.prompts, salt="world"))
    asked = ask(KNN, prepared, rows[:500], prepared, rows[500:])
    reference = asked.reference("best-single")
    promise = Promise(floor=0.9)
    kept = asked.expected.quality.mean(axis=1, dtype=np.float64) >= promise.floor * reference.mean()
    assert kept[0]
    assert not kept[-1]
    broken = certified = 0
    for seed in range(500):
        drawn = np.random.default_rng(seed).integers(0, len(reference), 250)
        found = certify(asked.expected.quality[:, drawn], reference[drawn], promise)
        certified += found.certified > 0
        broken += not kept[: found.certified].all()
    assert certified > 400
    assert broken <= 0.1 * 500 + 4 * np.sqrt(500 * 0.1 * 0.9)


def test_the_router_that_serves_does_at_the_picked_dial_what_was_estimated(prepared_of):
    prepared = prepared_of(1600)
    rows = np.argsort(hash_order(prepared.table.prompts, salt="any"))
    fit, rest = rows[:800], rows[800:]
    found = tune(Promise(floor=0.9), KNN, prepared, fit, prepared, rest)
    table, asked = prepared.table.select(fit), prepared.table.select(rest)
    policy = registry.create("knn", KNN.params).fit(
        Experience.from_table(prepared.batch(fit), table.endpoints, table.quality, table.cost_usd)
    )
    router = Router(
        endpoints=prepared.endpoints,
        default_endpoint="small",
        live=lambda: NamedPolicy(name="knn", version=1, policy=policy),
        cost=MeanCost.of(table.cost_usd),
        rule=Greedy(),
        space=prepared.space,
        worth_usd=found.worth_usd,
    )
    chosen = route_offline(router, asked, prepared.embedding[rest]).chosen
    assert 0 < (chosen == 2).mean() < 1
    realised = np.arange(len(rest)), chosen
    assert asked.cost_usd[realised].mean() == pytest.approx(found.cost_usd)
    assert asked.quality[realised].mean() == pytest.approx(found.quality)


def test_the_rules_probabilities_count(tuned, source):
    """A rule that throws dice costs what dice cost, whatever the dial."""
    dice = Setting(encoder=Encoder(kind="hashing"), rule=EpsilonGreedy(epsilon=1.0))
    found = tuned(source, 0.1, setting=dice)
    assert found.cost_usd == pytest.approx(np.mean(list(PRICES.values())))
    assert found.certificate.certified == found.dials


def test_calibration_never_asks_what_was_learned(tuned, source, tmp_path):
    overlapping = write(tmp_path / "more.jsonl", 2000, seed=1)
    found = tuned(overlapping, fit_on=source)
    assert (found.queries_fitted, found.queries_calibrated) == (1600, 400)
    with pytest.raises(DataError, match="0 others to calibrate with"):
        tuned(source, fit_on=source)


def test_the_seed_chooses_the_split_and_nothing_else_does(tuned, source):
    assert tuned(source) == tuned(source)
    assert tuned(source).queries_fitted != tuned(source, seed=1).queries_fitted


def test_queries_with_missing_outcomes_calibrate_nothing(tuned, source, tmp_path):
    lines = Path(source).read_text().splitlines(keepends=True)
    gaps = tmp_path / "gaps.jsonl"
    gaps.write_text("".join(line for i, line in enumerate(lines) if i % 30))  # `small` lacks every tenth query
    found = tuned(str(gaps))
    left_out = int(re.search(r"(\d+) queries without outcomes", " ".join(found.notes))[1])
    assert left_out > 40
    assert found.queries_fitted + found.queries_calibrated + left_out == 1600


def pool(*names):
    price = {f"price_{kind}_usd_per_mtok": Decimal("0.1") for kind in ("input", "cached_input", "cache_write")}
    return tuple(
        Endpoint(
            name=name,
            model=f"m-{name}",
            context_tokens_max=8000,
            price_output_usd_per_mtok=Decimal(10 ** (i + 1)),
            **price,
        )
        for i, name in enumerate(names)
    )


def test_a_configured_pool_is_priced_by_its_own_list(tuned, source):
    setting = Setting(encoder=Encoder(kind="hashing"), pool=pool("small", "large"), default_endpoint="small")
    found = tuned(source, setting=setting)
    assert found.best_single_cost_usd == pytest.approx((100 * 100 + 10 * 0.1) * 1e-6)
    assert found.saving > 0.3


def test_an_endpoint_without_outcomes_cannot_be_promised_anything_of(tuned, source):
    setting = Setting(
        encoder=Encoder(kind="hashing"), pool=pool("small", "large", "stranger"), default_endpoint="small"
    )
    with pytest.raises(DataError, match=r"no outcomes of stranger.*configuration"):
        tuned(source, setting=setting)


def test_the_policy_must_know_the_same_endpoints(tuned, source, tmp_path):
    fewer = write(tmp_path / "fewer.jsonl", 200, endpoints=("small", "large"), first=5000)
    with pytest.raises(DataError, match="no outcomes of medium"):
        tuned(fewer, fit_on=source)
    assert tuned(source, 0.5, fit_on=fewer).best_single == "large"


@pytest.mark.parametrize("cost_usd", [None, 0.001])
def test_without_prices_there_is_no_dial(tuned, tmp_path, cost_usd):
    with pytest.raises(DataError, match="no dial to pick"):
        tuned(write(tmp_path / "flat.jsonl", 100, cost_usd=cost_usd))
    with pytest.raises(DataError, match="no dial to pick"):
        dials(np.array([0.001, 0.001]))


def test_what_cannot_be_meant_is_refused(tuned, source):
    with pytest.raises(RequestError, match=r"'larg'.*best-single, oracle, absolute, small, medium, large") as refused:
        tuned(source, of="larg")
    assert refused.value.param == "of"
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(RequestError, match="share to fit on"):
            tuned(source, fit_share=share)
    with pytest.raises(ConfigError, match="several tables"):
        tuned("paretobandit")


def test_dials_fall_and_are_what_will_be_printed():
    found = dials(np.array([1e-5, 2e-4, 3e-3]))
    assert (np.diff(found) < 0).all()
    assert np.isfinite(found).all()
    assert [float(f"{worth:.4g}") for worth in found] == found.tolist()


def test_the_finding_can_be_written_read_and_pasted(tuned, source, tmp_path):
    found = tuned(source)
    tuning_report.write(found, tmp_path / "found.json")
    read = json.loads((tmp_path / "found.json").read_text())
    assert read["promise"] == {"floor": 0.9, "of": "best-single", "confidence": 0.9}
    assert (read["worth_usd"], read["estimates"]["saving"]) == (found.worth_usd, found.saving)
    settings = yaml.safe_load(tuning_report.snippet(found))
    assert settings == {"policy": {"name": "knn", "params": {"k": 20}}, "worth_usd": found.worth_usd}
    with pytest.raises(ConfigError, match="No such file"):
        tuning_report.write(found, tmp_path / "nowhere" / "found.json")
