"""From a table of outcomes to what a running gateway needs: experience, answer lengths, recordings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from router_gateway.core.errors import ConfigError
from router_gateway.core.experience import Experience
from router_gateway.core.ids import uuid7
from router_gateway.core.money import usd_to_nusd
from router_gateway.core.protocols import Embedder, Policy, ReadsTexts
from router_gateway.core.types import Endpoint, Floats, Queries
from router_gateway.dispatch.tokens import count_tokens
from router_gateway.evaluation.answers import answer_vectors
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.packaged import read_paretobandit, tokens_for_cost
from router_gateway.evaluation.readers import read_outcomes
from router_gateway.evaluation.replay import query_of
from router_gateway.routing.cost import TokenPriceCost
from router_gateway.routing.streaming_cost import LearnedCost

Progress = Callable[[int, int], None]
"""Called with (done, total) while texts are embedded."""

PARETOBANDIT = "paretobandit"
_PARTS: tuple[Literal["val", "test_holdout"], ...] = ("val", "test_holdout")
_EMBED_CHUNK = 16


def read_source(source: str) -> list[Benchmark]:
    """Tables by name: `paretobandit[:val|:test_holdout]`, or a file in the common schema with an optional `:split`.

    Raises ConfigError for a name that is neither, DataError for bad rows.
    """
    name, colon, split = source.rpartition(":")
    if not colon or "/" in split or "\\" in split:  # a colon inside a path is not ours
        name, split = source, ""
    if name == PARETOBANDIT:
        if split and split not in _PARTS:
            raise ConfigError([f"{source}: {PARETOBANDIT} has the parts {' and '.join(_PARTS)}"])
        return [read_paretobandit(part) for part in _PARTS if split in ("", part)]
    if not Path(name).is_file():
        raise ConfigError([f"{source}: no such file"])
    table = read_outcomes(Path(name))
    if split and split not in table.splits:
        known = sorted({s for s in table.splits if s is not None})
        raise ConfigError([f"{source}: no split {split!r}; the file has {', '.join(known) or 'none'}"])
    return [table.split(split) if split else table]


def of_pool(table: Benchmark, endpoints: Sequence[Endpoint], source: str) -> Benchmark:
    """The columns of this pool's endpoints, each prompt once. Raises ConfigError when there is none."""
    names = [e.name for e in endpoints if e.name in table.endpoints]
    if not names:
        raise ConfigError(
            [f"{source}: holds outcomes of {', '.join(table.endpoints[:10])}, none of which is an endpoint here"]
        )
    return table.endpoints_subset(names).deduplicated()


def embed_all(embedder: Embedder, prompts: Sequence[str], progress: Progress | None = None) -> Floats:
    """float32 (Q, d) of the prompts as the API would read them, in chunks so that progress can be shown."""
    texts = [query_of(prompt, uuid7()).text for prompt in prompts]
    vectors = []
    for start in range(0, len(texts), _EMBED_CHUNK):
        vectors.append(embedder.embed(texts[start : start + _EMBED_CHUNK]))
        if progress is not None:
            progress(min(start + _EMBED_CHUNK, len(texts)), len(texts))
    return np.concatenate(vectors) if vectors else np.zeros((0, embedder.width), dtype=np.float32)


def experience_of(table: Benchmark, embedding: Floats, space: str) -> Experience:
    """Full-information outcomes as something to learn from."""
    queries = _queries(table.prompts, embedding, space)
    answers = answer_vectors(table.responses)
    return Experience.from_table(queries, table.endpoints, table.quality, table.cost_usd, answers)


def with_texts(policy: Policy, embedder: Callable[[], Embedder]) -> Policy:
    """The policy, shown the vectors of the texts in its parameters; `embedder` is called only if it has some."""
    if isinstance(policy, ReadsTexts) and policy.texts:
        reader = embedder()
        read = _queries(policy.texts, embed_all(reader, policy.texts), reader.space)
        policy.learn_texts(replace(read, text=policy.texts))
    return policy


def _queries(prompts: Sequence[str], embedding: Floats, space: str) -> Queries:
    read = [query_of(prompt, uuid7()) for prompt in prompts]
    tokens = np.array([query.tokens_input for query in read], dtype=np.int64)
    return Queries(text=tuple(query.text for query in read), embedding=embedding, tokens_input=tokens, space=space)


def with_tokens(table: Benchmark, endpoints: Sequence[Endpoint]) -> Benchmark:
    """The table with token counts; where a source records only the cost, counts whose price is that cost."""
    pool = {e.name: e for e in endpoints}
    tokens_input, tokens_output = table.tokens_input.copy(), table.tokens_output.copy()
    guesses = [count_tokens(prompt) for prompt in table.prompts]
    for column, name in enumerate(table.endpoints):
        # A token may cost a fraction of a nano-dollar: prices and cost are counted in that fraction.
        prices_nusd = [pool[name].price_input_usd_per_mtok * 1000, pool[name].price_output_usd_per_mtok * 1000]
        per_nusd = math.lcm(*(price.as_integer_ratio()[1] for price in prices_nusd))
        price_input, price_output = (int(price * per_nusd) for price in prices_nusd)
        lacking = np.isnan(tokens_output[:, column]) & ~np.isnan(table.cost_usd[:, column])
        for row in np.flatnonzero(lacking):
            cost = usd_to_nusd(table.cost_usd[row, column]) * per_nusd
            counts = tokens_for_cost(cost, price_input, price_output, guesses[row])
            tokens_input[row, column], tokens_output[row, column] = counts.tokens_input, counts.tokens_output
    return replace(table, tokens_input=tokens_input, tokens_output=tokens_output)


def learn_lengths(cost: LearnedCost, table: Benchmark) -> None:
    """Teach a cost model how long each endpoint's answers are, from a table with token counts."""
    if not isinstance(cost, TokenPriceCost):
        tokens_output = np.full((len(table), len(cost.endpoints)), np.nan)
        for column, endpoint in enumerate(cost.endpoints):
            if endpoint.name in table.endpoints:
                tokens_output[:, column] = table.tokens_output[:, table.endpoints.index(endpoint.name)]
        cost.fit([query_of(prompt, uuid7()) for prompt in table.prompts], tokens_output)
        return
    for column, name in enumerate(table.endpoints):
        known = table.tokens_output[:, column][~np.isnan(table.tokens_output[:, column])]
        if len(known):
            cost.observe_output(name, float(known.mean()), calls=float(len(known)))
