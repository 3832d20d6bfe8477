"""BERT's word pieces several times faster than its tokenizer: words that were seen before are looked up.

Wu et al., 2016 (arXiv 1609.08144), as BERT uses it: uncased text is split at white space and around punctuation, and
each word is taken apart greedily, the longest piece first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

WORDS_MAX = 100_000
"""Words remembered, about 20 MB; beyond it all are forgotten and learned again."""

_REMEMBERED_CHARS_MAX = 64
_WORD_CHARS_MAX = 100  # BERT's: what is longer is unknown
_UNKNOWN = "[UNK]"

_PLAIN = re.compile(r"[\t\n\r -~]*")
_WORD = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")
_CHUNK = re.compile(r"[^\t\n\r ]+")


class WordPieces(dict[str, tuple[int, ...]]):
    """Text to ids of word pieces, exactly those of the tokenizers library for an uncased BERT vocabulary.

    vocabulary : the pieces by id. Names of special tokens in a text are ordinary text.

    Printable ASCII is split here, by one regular expression; anything else goes to the library, chunk by chunk
    between white space. Threads may share it.
    """

    def __init__(self, vocabulary: Sequence[str], *, words_max: int = WORDS_MAX) -> None:
        from tokenizers import Tokenizer
        from tokenizers.models import WordPiece
        from tokenizers.normalizers import BertNormalizer
        from tokenizers.pre_tokenizers import BertPreTokenizer

        super().__init__()
        model = WordPiece(
            {piece: at for at, piece in enumerate(vocabulary)},
            unk_token=_UNKNOWN,
            max_input_chars_per_word=_WORD_CHARS_MAX,
        )
        self._tokenizer = Tokenizer(model)
        self._tokenizer.normalizer = BertNormalizer(lowercase=True)
        self._tokenizer.pre_tokenizer = BertPreTokenizer()
        self._words_max = words_max

    def ids(self, text: str) -> list[int]:
        """The pieces of `text`, in order."""
        if _PLAIN.fullmatch(text):
            words = _WORD.findall(text.lower())
        else:
            words = []
            for chunk in _CHUNK.findall(text):
                if _PLAIN.fullmatch(chunk):
                    words += _WORD.findall(chunk.lower())
                else:
                    words.append(chunk)
        return list(chain.from_iterable(map(self.__getitem__, words)))

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = tuple(self._tokenizer.encode(word, add_special_tokens=False).ids)
        if len(word) <= _REMEMBERED_CHARS_MAX:
            if len(self) >= self._words_max:
                self.clear()
            self[word] = ids
        return ids
