"""Routes as a user writes them, all-MiniLM-L6-v2, and prompts that neither was made for."""

import json
from pathlib import Path

import numpy as np
import pytest

from policies._routes import Route
from policies.routes import OTHER, Routes
from router_gateway.core.experience import Experience
from router_gateway.core.types import Queries
from router_gateway.embedding.onnx import OnnxEmbedder

STARTER = Path(__file__).parents[2] / "datasets" / "starter.jsonl"

# What a user would write: the domains of the starter prompts are only the routes' names.
ROUTES = {
    "software_engineering": (
        "writing, reading and fixing code in a programming language",
        "my unit test fails with a null pointer exception",
        "refactor this class so that it is easier to test",
        "write a function that parses dates in typescript",
        "why does this loop never end?",
        "what is a mutex?",
    ),
    "data_and_sql": (
        "databases, SQL queries, tables, spreadsheets and statistics of data",
        "select the top ten customers by revenue from the orders table",
        "how do I pivot a dataframe in pandas?",
        "which index would speed up this join?",
        "count rows per month with group by",
        "clean these csv columns with missing values",
    ),
    "law_and_policy": (
        "law, contracts, rights, regulation and public policy",
        "can my landlord keep the deposit?",
        "summarise what the indemnity clause obliges us to",
        "is a verbal contract binding?",
        "what does the data protection regulation say about consent?",
        "draft a non-disclosure agreement",
    ),
    "finance_and_accounting": (
        "money, accounting, taxes, loans and investments",
        "book this invoice as debit and credit",
        "what is the monthly payment on a mortgage of 200000?",
        "explain the difference between revenue and cash flow",
        "depreciate a machine over five years",
        "which ratio tells if a company is in debt?",
    ),
    "life_science_and_medicine": (
        "biology, medicine, health, the body and drugs",
        "what are the symptoms of anaemia?",
        "how do vaccines train the immune system?",
        "explain how enzymes in a cell work",
        "is it safe to take ibuprofen with blood thinners?",
        "which gene is mutated in cystic fibrosis?",
    ),
    "creative_writing": (
        "stories, poems, characters, dialogue and other fiction",
        "write a poem about autumn in four lines",
        "give me an opening scene of a mystery novel",
        "rewrite this dialogue so that the villain sounds tired",
        "name my fantasy kingdom",
        "a bedtime story about a brave hedgehog",
    ),
    "language_and_translation": (
        "translating between languages, grammar, vocabulary and idioms",
        "how do you say good luck in italian?",
        "translate this sentence into german",
        "when is the subjunctive used in spanish?",
        "what does this french idiom mean?",
        "correct the grammar of my english sentence",
    ),
    "history_and_geography": (
        "history, wars, empires, countries, rivers and capitals",
        "which countries border austria?",
        "why did the roman republic fall?",
        "when was the treaty of versailles signed?",
        "what is the longest river of africa?",
        "compare two revolutions of the nineteenth century",
    ),
}


@pytest.fixture(scope="module")
def matched():
    """The domains of the prompts that have a route, and the routes that they were given."""
    rows = [json.loads(line) for line in STARTER.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["domain"] in ROUTES]
    encoder = OnnxEmbedder(threads=1)

    def queries(texts):
        tokens = np.ones(len(texts), dtype=np.int64)
        return Queries(text=tuple(texts), embedding=encoder.embed(texts), tokens_input=tokens, space=encoder.space)

    written = tuple(
        Route(name=name, description=texts[0], examples=texts[1:], endpoints=("any",)) for name, texts in ROUTES.items()
    )
    asked = queries([row["prompt"] for row in rows])
    policy = Routes(routes=written)
    policy.learn_texts(queries(policy.texts))
    policy.fit(Experience.from_table(asked.take(slice(0)), ("any",), np.zeros((0, 1))))
    return np.array([row["domain"] for row in rows]), np.array(policy.match(asked))


def test_prompts_find_the_route_of_their_domain(matched):
    domain, found = matched
    right = found == domain
    print(f"{right.mean():.3f} right of {len(right)}; other {(found == OTHER).mean():.3f}")
    print({name: round(float(right[domain == name].mean()), 2) for name in ROUTES})
    assert right.mean() > 4 / len(ROUTES), "four times what a draw among the routes would find"
    assert min(right[domain == name].mean() for name in ROUTES) > 1 / len(ROUTES)


def test_where_a_route_is_found_it_is_mostly_the_right_one(matched):
    domain, found = matched
    told = found != OTHER
    print(f"{(found == domain)[told].mean():.3f} right of the {told.mean():.3f} that found a route")
    assert told.mean() > 0.5
    assert (found == domain)[told].mean() > 0.6
