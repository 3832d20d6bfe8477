"""A contract that nothing can break is no contract: each broken policy is caught by the check that names its fault."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from policies.baseline import BestOnAverage, Cheapest
from policies.knn import KNN
from router_gateway.core.errors import NotFitted
from router_gateway.testing import check_policy, checks


@dataclass(kw_only=True)
class Float64(BestOnAverage):
    def score(self, queries):
        scores = super().score(queries)
        return replace(scores, quality=scores.quality.astype(np.float64))


@dataclass(kw_only=True)
class Transposed(BestOnAverage):
    def score(self, queries):
        scores = super().score(queries)
        return replace(scores, quality=scores.quality.T, stddev=scores.stddev.T)


@dataclass(kw_only=True)
class NotFinite(BestOnAverage):
    def score(self, queries):
        scores = super().score(queries)
        return replace(scores, stddev=np.full_like(scores.stddev, np.nan))


@dataclass(kw_only=True)
class NanWhereUnobserved(BestOnAverage):
    def score(self, queries):
        scores = super().score(queries)
        unobserved = self.table_.sums[0] == 0
        return replace(scores, quality=np.where(unobserved, np.float32(np.nan), scores.quality))


@dataclass(kw_only=True)
class OutOfRange(BestOnAverage):
    def score(self, queries):
        scores = super().score(queries)
        return replace(scores, quality=scores.quality * 3)


@dataclass(kw_only=True)
class NormalisesOverTheBatch(KNN):
    def score(self, queries):
        scores = super().score(queries)
        if not len(queries):
            return scores
        spread = np.ptp(scores.quality, axis=0) + np.float32(1e-6)
        return replace(scores, quality=((scores.quality - scores.quality.min(axis=0)) / spread).clip(0, 1))


@dataclass(kw_only=True)
class RanksByPosition(BestOnAverage):
    def score(self, queries):
        scores = super().score(queries)
        fading = np.linspace(1, 0.5, len(queries), dtype=np.float32)
        return replace(scores, quality=scores.quality * fading[:, None])


@dataclass(kw_only=True)
class FailsOnNothing(BestOnAverage):
    def score(self, queries):
        assert len(queries) > 0
        return super().score(queries)


@dataclass(kw_only=True)
class WritesIntoQueries(BestOnAverage):
    def score(self, queries):
        if queries.embedding.flags.writeable:
            queries.embedding[:] *= 0.5
        return super().score(queries)


@dataclass(kw_only=True)
class LearnsFromQuestions(BestOnAverage):
    def score(self, queries):
        scores = super().score(queries)
        sums = self.table_.sums + np.array([[1.0], [1.0], [1.0]]) * len(queries)
        self.table_ = replace(self.table_, sums=sums)
        return scores


@dataclass(kw_only=True)
class FitReturnsNothing(BestOnAverage):
    def fit(self, experience):
        super().fit(experience)


@dataclass(kw_only=True)
class FitAddsUp(BestOnAverage):
    def fit(self, experience):
        return super().fit(experience) if self.table_ is None else self.partial_fit(experience)


@dataclass(kw_only=True)
class GuessesUnfitted(BestOnAverage):
    def partial_fit(self, experience):
        return self.fit(experience) if self.table_ is None else super().partial_fit(experience)


@dataclass(kw_only=True)
class LearnsNothingMore(BestOnAverage):
    def partial_fit(self, experience):
        before = self._table()
        super().partial_fit(experience)
        self.table_ = replace(self.table_, sums=self.table_.sums * 0)
        self.table_ = self.table_.plus(before)
        return self


@dataclass(kw_only=True)
class ForgetsNewEndpoints(BestOnAverage):
    def partial_fit(self, experience):
        return super().partial_fit(experience.align(self._table().endpoints))


@dataclass(kw_only=True)
class TunesItself(KNN):
    def fit(self, experience):
        self.k = 1 + len(experience) % 7
        return super().fit(experience)


@dataclass
class Positional(BestOnAverage):
    weight: float = 1.0


@dataclass(kw_only=True)
class StateIsAField(BestOnAverage):
    table_: object = field(default=None, repr=False)

    def __post_init__(self):
        pass


@dataclass(kw_only=True)
class SharesItsTable(BestOnAverage):
    def partial_fit(self, experience):
        later = replace(self).fit(experience)._table().sums
        width = min(later.shape[1], self._table().sums.shape[1])
        self._table().sums[:, :width] += later[:, :width]
        return self

    def __deepcopy__(self, memo):
        twin = replace(self)
        twin.table_ = self.table_
        return twin


@dataclass(kw_only=True)
class TakesAnySpace(BestOnAverage):
    def score(self, queries):
        return super().score(replace(queries, space=self._table().space))


@dataclass(kw_only=True)
class TakesAnyWidth(BestOnAverage):
    def score(self, queries):
        return super().score(replace(queries, embedding=queries.embedding[:, : self._table().width]))


@dataclass(kw_only=True)
class SavesRounded(BestOnAverage):
    @classmethod
    def load(cls, directory):
        policy = super().load(directory)
        policy.table_ = replace(policy.table_, sums=policy.table_.sums.round(-1))
        return policy


@dataclass(kw_only=True)
class SavesTooLittle(KNN):
    @classmethod
    def load(cls, directory):
        policy = super().load(directory)
        policy.partial_fit = lambda experience: policy
        return policy


@dataclass(kw_only=True)
class SavesObjects(BestOnAverage):
    def save(self, directory):
        super().save(directory)
        np.savez(directory / "more.npz", objects=np.array([{"a": 1}, None], dtype=object))


@dataclass(kw_only=True)
class SavesUnfitted(BestOnAverage):
    def save(self, directory):
        if self.table_ is None:
            (directory / "state.json").write_text(json.dumps({}))
        else:
            super().save(directory)


@dataclass(kw_only=True)
class NeedsEveryCell(BestOnAverage):
    def fit(self, experience):
        table, _ = experience.table()
        if np.isnan(table).any():
            raise ValueError("missing outcomes")
        return super().fit(experience)


@dataclass(kw_only=True)
class PrefersTheWorst(BestOnAverage):
    def score(self, queries):
        scores = super().score(queries)
        return replace(scores, quality=1 - scores.quality)


BROKEN = [
    (Float64, "scores_are_float32"),
    (Transposed, "scores_cover_queries_and_endpoints"),
    (NotFinite, "scores_are_finite"),
    (NanWhereUnobserved, "unobserved_endpoint_is_scored"),
    (OutOfRange, "scores_stay_in_range"),
    (NormalisesOverTheBatch, "batch_equals_its_rows"),
    (RanksByPosition, "order_of_queries_does_not_matter"),
    (FailsOnNothing, "one_query_and_none_are_batches"),
    (WritesIntoQueries, "score_leaves_its_argument_alone"),
    (LearnsFromQuestions, "score_answers_alike_twice"),
    (LearnsFromQuestions, "score_does_not_grow_the_policy"),
    (FitReturnsNothing, "fit_returns_self"),
    (FitAddsUp, "fit_starts_from_scratch"),
    (FitAddsUp, "fit_is_repeatable"),
    (GuessesUnfitted, "unfitted_raises_not_fitted"),
    (LearnsNothingMore, "partial_fit_moves_toward_the_data"),
    (ForgetsNewEndpoints, "partial_fit_brings_new_endpoints"),
    (TunesItself, "hyperparameters_survive_fit"),
    (Positional, "is_a_keyword_only_dataclass"),
    (StateIsAField, "is_a_keyword_only_dataclass"),
    (StateIsAField, "replace_gives_an_unfitted_clone"),
    (SharesItsTable, "copy_learns_alone"),
    (TakesAnySpace, "other_space_is_refused"),
    (TakesAnyWidth, "other_width_is_refused"),
    (SavesRounded, "saved_policy_scores_alike"),
    (SavesTooLittle, "loaded_policy_learns_on"),
    (SavesObjects, "saves_no_pickle"),
    (SavesUnfitted, "unfitted_is_not_saved"),
    (NeedsEveryCell, "missing_outcomes_are_accepted"),
    (PrefersTheWorst, "beats_random_choice"),
    (Cheapest, "beats_random_choice"),
]


@pytest.mark.parametrize(("broken", "name"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_policy_is_caught_by_the_check_that_names_the_fault(broken, name):
    with pytest.raises(AssertionError) as caught:
        check_policy(broken)
    assert f"- {name}: " in str(caught.value)


def test_every_fault_is_named_at_once():
    @dataclass(kw_only=True)
    class TwoFaults(SavesObjects):
        def score(self, queries):
            scores = super().score(queries)
            return replace(scores, quality=scores.quality.astype(np.float64))

    with pytest.raises(AssertionError) as caught:
        check_policy(TwoFaults)
    faults = [line.split(":")[0] for line in str(caught.value).splitlines()[1:]]
    assert faults == ["- scores_are_float32", "- saves_no_pickle"]


def test_messages_carry_what_was_raised():
    def factory():
        raise NotFitted("this factory never works")

    with pytest.raises(AssertionError, match="NotFitted: this factory never works"):
        check_policy(factory)


def test_a_policy_without_estimates_says_so():
    check_policy(Cheapest, beats_random=False)
    names = {check.name for check in checks()} - {check.name for check in checks(beats_random=False)}
    assert names == {"beats_random_choice", "partial_fit_moves_toward_the_data"}


def test_check_names_are_distinct():
    names = [str(check) for check in checks()]
    assert len(names) == len(set(names))
