import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.dispatch import tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("Hello, world!", 4), ("tiktoken is great!", 6), ("お誕生日おめでとう", 9)],  # published examples
)
def test_counts_as_cl100k_base_does(text, expected):
    assert tokens.count_tokens(text) == expected


def test_a_special_token_in_a_prompt_is_ordinary_text():
    assert tokens.count_tokens("<|endoftext|>") > 1


def test_lone_surrogates_are_counted_not_refused():
    assert tokens.count_tokens("a\ud800b") >= 2


def test_a_long_text_is_extrapolated_closely():
    sentence = "The quick brown fox, aged 7, jumps over a lazy dog and naps. "
    times = 40 * tokens.EXACT_CHARS_MAX // len(sentence)
    exact = tokens.count_tokens(sentence * 100) / 100 * times
    assert tokens.count_tokens(sentence * times) == pytest.approx(exact, rel=0.03)


def test_the_samples_reach_both_ends_and_the_middle():
    plain = "word " * 10_000
    for position in (0, 21_000, 49_000):
        dense = plain[:position] + "漢" * 1_000 + plain[position + 1_000 :]
        assert tokens.count_tokens(dense) > tokens.count_tokens(plain), position


def test_first_use_from_many_threads(monkeypatch):
    monkeypatch.setattr(tokens, "_counter", None)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(tokens.count_tokens, ["Hello, world!"] * 16)) == {4}


def test_without_the_vocabulary_characters_are_counted(monkeypatch):
    monkeypatch.setattr(tokens, "vocabulary_path", lambda: None)
    monkeypatch.setattr(tokens, "_counter", None)
    assert tokens.count_tokens("abcdefgh") == 2
    assert tokens.count_tokens("漢字 abcd") == 2 + 2
    assert tokens.count_tokens("a\ud800") == 1


def test_a_damaged_vocabulary_falls_back_to_characters(monkeypatch, tmp_path):
    damaged = tmp_path / "vocabulary"
    damaged.write_bytes(b"IQ== zero\n")
    monkeypatch.setattr(tokens, "vocabulary_path", lambda: damaged)
    monkeypatch.setattr(tokens, "_counter", None)
    assert tokens.count_tokens("abcdefgh") == 2


def test_counting_imports_no_litellm_and_opens_no_socket():
    program = """
import socket, sys
def no(*_): raise SystemExit("a socket was opened")
socket.socket.__init__ = no
from router_gateway.dispatch.tokens import count_tokens
assert count_tokens("Hello, world!") == 4
assert "litellm" not in sys.modules and "requests" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


ASCII = st.text(alphabet=st.characters(max_codepoint=127), max_size=60)
WORDLIKE = st.lists(
    st.sampled_from([" ", "\n", "\r", "\t", "'", "'s", "'LL", "word", "A", "42", "12345", "_", "::", "("])
)


@given(ASCII | WORDLIKE.map("".join))
def test_counting_word_by_word_is_counting(text):
    counter = tokens._load().__self__
    assert counter.count(text) == len(counter._encode(text))


def test_no_more_words_are_remembered_than_the_bound(monkeypatch):
    monkeypatch.setattr(tokens, "_WORDS_REMEMBERED_MAX", 3)
    counter = tokens._Counter(lambda word: [0] * len(word))
    assert counter.count("a bb cc dd ee") == len("a bb cc dd ee")
    assert len(counter) <= 3
