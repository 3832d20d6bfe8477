import copy
import dataclasses

import numpy as np
import pytest

from policies._routes import Matcher, Route, blends
from policies.baseline import BestOnAverage
from policies.routes import OTHER, Routes
from router_gateway import registry
from router_gateway.core.errors import BadParameters, NotFitted
from router_gateway.core.protocols import ReadsConversations, ReadsTexts
from router_gateway.core.types import Queries
from router_gateway.testing import check_policy, specialists, two_by_two


def written(world, *, examples=6, seed=50):
    """A route for each kind of query but the last, ranking the endpoint that is best at it, with its texts' vectors."""
    queries, cluster = world.queries(400, seed=seed)
    kinds = len(world.centres) - 1
    routes, vectors = [], []
    for kind in range(kinds):
        own = queries.embedding[cluster == kind][:examples]
        texts = tuple(f"kind {kind}, example {i}" for i in range(len(own)))
        best = (world.endpoints[int(world.quality[kind].argmax())],)
        routes.append(Route(name=f"kind-{kind}", description=f"kind {kind}", examples=texts, endpoints=best))
        vectors += [world.centres[kind], *own]
    return tuple(routes), np.stack(vectors)


def shown(policy, vectors, space="synthetic"):
    vectors = np.asarray(vectors, dtype=np.float32)
    tokens = np.ones(len(vectors), dtype=np.int64)
    return policy.learn_texts(Queries(text=policy.texts, embedding=vectors, tokens_input=tokens, space=space))


def routed(world, **parameters):
    routes, vectors = written(world)
    return shown(Routes(routes=routes, **parameters), vectors)


def nothing_of(world):
    train = world.experience(10, seed=1)
    return train.select(np.array([], dtype=np.int64))


@pytest.mark.parametrize("which", ["none", "none near"])
def test_where_no_route_is_near_it_is_best_on_average(which):
    world = specialists(seed=1)
    train, asked = world.experience(100, seed=2, missing=0.3), world.queries(20, seed=3)[0]
    policy = Routes() if which == "none" else routed(world, similarity_min=1.0)
    scores, average = policy.fit(train).score(asked), BestOnAverage().fit(train).score(asked)
    np.testing.assert_array_equal(scores.quality, average.quality)
    np.testing.assert_array_equal(scores.stddev, average.stddev)
    assert set(policy.match(asked)) == {OTHER}


def test_queries_find_their_route_and_strangers_none():
    world = specialists(seed=1)
    policy = routed(world).fit(nothing_of(world))
    queries, cluster = world.queries(600, seed=3)
    truth = np.array([*(f"kind-{k}" for k in range(3)), OTHER])[cluster]
    found = np.array(policy.match(queries))
    assert (found == truth).mean() > 0.9, "about one in twenty of a route's own is taken for a stranger"
    assert (found[truth == OTHER] == OTHER).all()
    assert not ((found != OTHER) & (found != truth)).any()


def test_one_in_twenty_examples_may_be_unlike_its_route():
    world = specialists(seed=1)
    policy = routed(world).fit(nothing_of(world))
    vectors = written(world)[1]
    alone = []
    for route in range(3):
        texts = vectors[7 * route : 7 * route + 7].astype(float)
        for left_out in range(1, 7):
            others = np.delete(texts, [0, left_out], axis=0)
            nearest = np.sort(others @ texts[left_out])[-3:].mean()
            alone.append(max(texts[0] @ texts[left_out], nearest))
    assert policy.table_.matcher.similarity_min == pytest.approx(np.quantile(alone, 0.05), abs=1e-6)


def test_similarity_is_to_the_description_or_to_the_nearest_three_examples():
    routes = (Route(name="a", description="a", examples=tuple("1234")), Route(name="b", description="b"))
    unit = np.eye(6)
    matcher = Matcher.of(unit.astype(np.float32), routes, None)
    asked = np.array([[0.1, 0.5, 0.4, 0.3, 0.2, 0.7], [0.9, 0.1, 0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(matcher.similarity(asked), [[0.4, 0.7], [0.9, 0.0]], atol=1e-12)


def test_two_routes_about_as_like_are_no_match():
    matcher = Matcher.of(
        np.eye(2, dtype=np.float32), (Route(name="a", description="a"), Route(name="b", description="b")), None
    )
    alike = np.array([[0.50, 0.49], [0.50, 0.40], [0.40, 0.50]])
    assert matcher.match(alike, 0.02).tolist() == [2, 0, 1]
    assert matcher.match(alike, 0.0).tolist() == [0, 0, 1]


def test_the_temperature_is_the_likeliest_for_the_examples():
    world = specialists(seed=1)
    clear, mixed = routed(world), routed(dataclasses.replace(world, spread=4.0))
    temperatures = [p.fit(nothing_of(world)).table_.matcher.temperature for p in (clear, mixed)]
    assert temperatures[0] < 0.1 < temperatures[1]


def test_without_outcomes_the_ranking_decides_above_all_that_are_not_ranked(make):
    route = Route(name="sums", description="sums", endpoints=("e2", "e0"))
    policy = shown(Routes(routes=(route,)), [[1.0, 0.0]])
    elsewhere = make.experience([[0.0, 1.0]] * 40, [[0.2, 0.9, 0.4, 0.8]] * 40)
    policy.similarity_min = 0.5
    policy = policy.fit(elsewhere)
    quality = policy.score(make.queries([[1.0, 0.0]])).quality[0]
    assert np.argsort(-quality).tolist() == [2, 0, 1, 3]
    average = BestOnAverage().fit(elsewhere).score(make.queries([[1.0, 0.0]])).quality[0]
    np.testing.assert_allclose(quality[[1, 3]], average[[1, 3]], atol=1e-6)


def test_with_many_outcomes_they_decide(make):
    route = Route(name="sums", description="sums", endpoints=("e0", "e1"))
    worse, better = 0.3, 0.7

    def gap(outcomes):
        policy = shown(Routes(routes=(route,)), [[1.0, 0.0]])
        policy.fit(make.experience([[1.0, 0.0]] * outcomes, [[worse, better]] * outcomes))
        scores = policy.score(make.queries([[1.0, 0.0]]))
        return scores.quality[0, 1] - scores.quality[0, 0], scores.stddev[0]

    assert gap(1)[0] < 0 < gap(100)[0]
    assert gap(10_000)[0] == pytest.approx(better - worse, abs=0.01)
    assert (gap(100)[1] < gap(1)[1]).all()


def test_it_beats_the_mean_with_a_ranking_alone_and_corrects_a_wrong_one():
    world = specialists(seed=1)
    queries, cluster = world.queries(400, seed=3)

    def regret(policy, train):
        return world.regret(cluster, policy.fit(train).score(queries).quality.argmax(axis=1))

    train = world.experience(1000, seed=2)
    few = train.select(train.query < 3)
    routes, vectors = written(world)
    wrong = tuple(dataclasses.replace(route, endpoints=(world.endpoints[-1],)) for route in routes)
    assert regret(routed(world), few) < 0.6 * regret(BestOnAverage(), few)
    assert regret(shown(Routes(routes=wrong), vectors), few) > 0.3
    assert regret(shown(Routes(routes=wrong), vectors), train) < 0.6 * regret(BestOnAverage(), train)


def test_regret_against_the_known_best_is_below_two_percent():
    world = two_by_two(seed=2)
    easy = Route(name="easy", description="easy", endpoints=world.endpoints)
    hard = Route(name="hard", description="hard", endpoints=world.endpoints[1:])
    policy = shown(Routes(routes=(easy, hard)), world.centres).fit(world.experience(1000, seed=1))
    queries, cluster = world.queries(500, seed=3)
    value = policy.score(queries).quality - world.cost_usd / 0.01
    assert world.regret(cluster, value.argmax(axis=1), worth_usd=0.01) < 0.02


def test_stddev_is_the_error_one_may_expect():
    world = specialists(seed=8)
    queries, cluster = world.queries(300, seed=9)
    errors = []
    for seed in range(20):
        routes, vectors = written(world)
        silent = tuple(dataclasses.replace(route, endpoints=()) for route in routes)
        policy = shown(Routes(routes=silent), vectors).fit(world.experience(120, seed=100 + seed))
        scores, on_route = policy.score(queries), np.array(policy.match(queries)) != OTHER
        errors.append(((scores.quality - world.quality[cluster]) / scores.stddev)[on_route])
    assert 0.5 < np.sqrt(np.mean(np.square(errors))) < 1.4


def test_probes_place_a_new_endpoint_on_each_route():
    world = specialists(seed=4)
    train = world.experience(800, seed=5)
    queries, cluster = world.queries(300, seed=7)
    policy = routed(world).fit(train.align(world.endpoints[1:]))
    probes = world.experience(192, seed=6).align(world.endpoints[:1])
    scores = policy.partial_fit(dataclasses.replace(probes, endpoints=("new",))).score(queries)
    column = scores.quality[:, scores.endpoints.index("new")]
    assert column[cluster == 0].mean() > 0.75
    assert column[(cluster == 1) | (cluster == 2)].mean() < 0.55


def test_an_endpoint_ranked_but_never_seen_is_preferred_with_full_doubt(make):
    route = Route(name="sums", description="sums", endpoints=("new",))
    policy = shown(Routes(routes=(route,)), [[1.0, 0.0]])
    scores = policy.fit(make.experience([[1.0, 0.0]] * 9, [[0.6]] * 9)).score(make.queries([[1.0, 0.0]]))
    assert scores.endpoints == ("e0", "new")
    assert scores.quality[0, 1] > scores.quality[0, 0]
    assert scores.stddev[0, 1] == 0.5


def test_partial_fit_adds_what_fit_would_have_counted():
    world = specialists(seed=1)
    train, asked = world.experience(200, seed=2, missing=0.5), world.queries(30, seed=3)[0]
    pieces = routed(world).fit(train.select(train.query < 100)).partial_fit(train.select(train.query >= 100))
    once = routed(world).fit(train)
    np.testing.assert_allclose(pieces.score(asked).quality, once.score(asked).quality, atol=1e-6)


def conversation(turns, *, padding=0):
    """The newest of `turns` as a query with those before it, after `padding` rows of zeros."""
    turns = np.asarray(turns, dtype=np.float32)
    earlier = np.concatenate([np.zeros((padding, turns.shape[1]), dtype=np.float32), turns[:-1]])
    return Queries(
        text=("",),
        embedding=turns[-1:],
        tokens_input=np.ones(1, dtype=np.int64),
        space="synthetic",
        earlier=earlier[None],
    )


def last_blend(turns, fading):
    *_, (vector, there) = blends(conversation(turns), fading)
    assert there.all()
    return vector[0]


def test_a_conversation_is_the_sum_of_its_turns_fading():
    expected = np.array([0.36, 0.6, 1.0])
    np.testing.assert_allclose(last_blend(np.eye(3), 0.6), expected / np.linalg.norm(expected), atol=1e-6)
    np.testing.assert_array_equal(last_blend(np.eye(3), 0.0), np.eye(3)[2])
    opposite = np.array([[1.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_array_equal(last_blend(opposite, 1.0), opposite[1])


def two_routes(make, **parameters):
    routes = (Route(name="a", description="a"), Route(name="b", description="b"))
    policy = shown(Routes(routes=routes, similarity_min=0.3, **parameters), np.eye(3)[:2])
    return policy.fit(make.experience(np.eye(3), np.full((3, 1), np.nan)))


def test_a_conversation_stays_on_its_route_until_another_is_clearly_liker(make):
    policy = two_routes(make, advantage_min=0.2)
    between, beyond, strange = [0.62, 0.70, 0.35], [0.4, 0.8, 0.45], [0.15, 0.0, 1.0]
    asked = make.queries([between, beyond, strange])
    assert policy.match(asked) == ("b", "b", OTHER)
    assert policy.match(asked, [None] * 3) == ("b", "b", OTHER)
    assert policy.match(asked, ["a"] * 3) == ("a", "b", "a"), "a stranger is as like as similarity_min, no liker"
    assert policy.match(asked, [OTHER] * 3) == ("b", "b", OTHER)


def test_follow_reads_a_conversation_as_a_whole(make):
    turns = make.queries([[1.0, 0.0, 0.1], [0.1, 0.1, 1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert two_routes(make).match(turns) == ("a", OTHER, "b", "b", OTHER)
    assert two_routes(make, margin_min=0.0).follow(turns) == ("a", "a", "b", "b", "b")
    assert two_routes(make, fading=0.0, advantage_min=0.0).follow(turns) == ("a", OTHER, "b", "b", OTHER)


def test_scores_follow_the_conversation(make):
    routes = (
        Route(name="a", description="a", endpoints=("e0",)),
        Route(name="b", description="b", endpoints=("e1",)),
    )
    policy = shown(Routes(routes=routes, similarity_min=0.3, advantage_min=0.2), np.eye(3)[:2])
    policy = policy.fit(make.experience(np.eye(3), np.full((3, 2), np.nan)))
    assert isinstance(policy, ReadsConversations)
    about_a, unclear = [1.0, 0.0, 0.0], [0.62, 0.70, 0.35]
    alone, after_a = make.queries([unclear]), conversation([about_a, unclear / np.linalg.norm(unclear)])
    assert policy.match(alone) == ("b",)
    assert policy.match(after_a) == ("a",)
    assert policy.score(alone).quality[0].argmax() == 1
    assert policy.score(after_a).quality[0].argmax() == 0
    elsewhere = conversation([[0.0, 0.0, 1.0], unclear / np.linalg.norm(unclear)])
    assert policy.score(elsewhere).quality[0].argmax() == 1


def test_shorter_conversations_beside_longer_ones_score_bit_for_bit_as_alone():
    world = specialists(seed=1)
    policy = routed(world).fit(world.experience(200, seed=2))
    turns, _ = world.queries(12, seed=3)
    talks = [turns.embedding[:1], turns.embedding[1:4], turns.embedding[4:8], turns.embedding[8:12]]
    longest = max(map(len, talks))
    padded = [conversation(talk, padding=longest - len(talk)) for talk in talks]
    batch = dataclasses.replace(
        turns.take(slice(len(talks))),
        embedding=np.concatenate([each.embedding for each in padded]),
        earlier=np.concatenate([each.earlier for each in padded]),
    )
    together = policy.score(batch)
    for row, talk in enumerate(talks):
        alone = policy.score(conversation(talk))
        np.testing.assert_array_equal(together.quality[row], alone.quality[0])
        np.testing.assert_array_equal(together.stddev[row], alone.stddev[0])
        assert policy.match(batch)[row] == policy.match(conversation(talk))[0]
    without = dataclasses.replace(conversation(talks[0]), earlier=None)
    np.testing.assert_array_equal(together.quality[0], policy.score(without).quality[0])


def test_texts_come_before_fit_and_are_the_routes_own(make):
    policy = Routes(routes=(Route(name="a", description="one", examples=("two", "three")),))
    assert isinstance(policy, ReadsTexts)
    assert policy.texts == ("one", "two", "three")
    with pytest.raises(NotFitted, match="no vectors"):
        policy.fit(make.random(5, 2))
    with pytest.raises(BadParameters, match="other texts"):
        policy.learn_texts(make.queries(np.eye(3)))


def test_parameters_are_plain_and_mistakes_in_them_are_named():
    plain = {"name": "sums", "description": "arithmetic", "examples": ["1 + 1?"], "endpoints": ["a", "b"]}
    policy = registry.create("routes", {"routes": [plain]})
    assert policy.routes == (Route(name="sums", description="arithmetic", examples=("1 + 1?",), endpoints=("a", "b")),)
    assert registry.create("routes", registry.parameters(policy)) == policy
    with pytest.raises(BadParameters, match=r"routes\.routes\.0\.exmples: unexpected keyword"):
        registry.create("routes", {"routes": [{"name": "a", "description": "b", "exmples": []}]})
    with pytest.raises(BadParameters, match="names of their own"):
        registry.create("routes", {"routes": [plain, plain]})
    with pytest.raises(BadParameters, match="other"):
        registry.create("routes", {"routes": [plain | {"name": OTHER}]})


def test_a_saved_policy_scores_and_learns_on(tmp_path):
    world = specialists(seed=1)
    train, asked = world.experience(100, seed=2), world.queries(20, seed=3)[0]
    policy = routed(world).fit(train)
    policy.save(tmp_path)
    again = Routes.load(tmp_path)
    assert again == policy
    for twin in (again, copy.deepcopy(policy)):
        np.testing.assert_array_equal(twin.score(asked).quality, policy.score(asked).quality)
        assert twin.match(asked) == policy.match(asked)
    more = world.experience(50, seed=4)
    np.testing.assert_array_equal(
        again.partial_fit(more).score(asked).stddev, policy.partial_fit(more).score(asked).stddev
    )


def test_it_keeps_the_contract():
    world = specialists(seed=11)  # the one that the checks ask about
    check_policy(lambda: routed(world))
