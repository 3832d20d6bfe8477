"""Makes the token table of `embedder.kind: static`: a sum of token rows that comes near what a BERT makes of a text.

    python -P benchmarks/static_table.py --teacher FOLDER --out table.npz

The teacher (a folder in the layout of sentence-transformers, mean pooling) reads texts; the table is fitted by Adam so
that the normalised sum of a text's rows has the teacher's vector as its direction. Texts: docstrings of the installed
Python packages, paragraph by paragraph and sentence by sentence; the same with words exchanged for others of the
vocabulary; and words drawn at random, so that no token is left without. No outcomes, and no benchmark's prompts.
Minutes on a GPU; another set of packages gives another table, of the same quality.

Hinton et al., 2015, "Distilling the knowledge in a neural network" (arXiv 1503.02531); the table itself is a bag of
words as in Wieting et al., 2016, "Towards universal paraphrastic sentence embeddings" (arXiv 1511.08198).
"""

from __future__ import annotations

import argparse
import ast
import re
import sysconfig
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch.nn import functional

from router_gateway.embedding.static import Table

WINDOW = 256
FIRST_WORD = 1996  # BERT's vocabulary is sorted by frequency from here on
COMMON_WORDS_END = 2146  # the first of these are "the", "of", "and": they hold a sentence together
HELD_OUT = 5000
STEP = 0.3  # of the rows' 8 bits, in standard deviations of a component: 1 % of the squares, and a third less to ship
_PROSE = re.compile(r"[A-Za-z]{2,}")

Tokens = list[list[int]]


def prose(text: str) -> bool:
    """Whether a paragraph is words rather than tables, signatures or code."""
    words = _PROSE.findall(text)
    return 15 <= len(text) <= 1500 and len(words) >= 3 and sum(map(len, words)) >= 0.55 * len(text)


def paragraphs(path: Path) -> set[str]:
    """Paragraphs of a module's docstrings, and their sentences."""
    found: set[str] = set()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text("utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for part in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                whole = re.sub(r"\s+", " ", part).strip()
                found.update(t for t in (whole, *re.split(r"(?<=[.?!:])\s+", whole)) if prose(t))
    return found


def corpus(folders: list[Path], workers: int) -> list[str]:
    """Distinct texts of all modules under `folders`, sorted."""
    files = sorted(
        p for folder in folders for p in folder.rglob("*.py") if p.is_file() and p.stat().st_size < 1_000_000
    )
    texts: set[str] = set()
    with ProcessPoolExecutor(workers) as pool:
        for found in pool.map(paragraphs, files, chunksize=64):
            texts |= found
    return sorted(texts)


def invented(real: Tokens, words: int, *, count: int, rng: np.random.Generator) -> Tokens:
    """Every word by itself, `count` real texts with 40 % of their words exchanged, and half as many bags of words.

    words : size of the vocabulary. Words are drawn by a flattened Zipf law of their rank.
    """
    known = np.arange(FIRST_WORD, words)
    chance = 1.0 / (np.arange(len(known)) + 300.0) ** 0.6
    drawn = rng.choice(known, size=4_000_000, p=chance / chance.sum())  # drawing in one go is a thousand times faster
    made: Tokens = [[int(one)] for one in known]
    for at in rng.integers(len(real), size=count):
        row = np.array(real[at][:64])
        swap = (row >= COMMON_WORDS_END) & (rng.random(len(row)) < 0.4)
        row[swap] = drawn[rng.integers(len(drawn), size=int(swap.sum()))]
        made.append(row.tolist())
    for length in rng.integers(2, 24, size=count // 2):
        made.append(drawn[rng.integers(len(drawn), size=length)].tolist())
    return made


@torch.no_grad()
def taught(teacher: Any, texts: Tokens, special: tuple[int, int], device: str) -> torch.Tensor:
    """The teacher's unit vectors, float16 (Q, d) on `device`; `special` ids stand before and after each text."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors: list[torch.Tensor] = []
    start = 0
    while start < len(order):
        size = max(32, min(4096, 200_000 // (len(texts[order[min(start + 2047, len(order) - 1)]]) + 2)))
        rows = [torch.tensor([special[0], *texts[i][: WINDOW - 2], special[1]]) for i in order[start : start + size]]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = torch.arange(tokens.shape[1])[None] < torch.tensor([len(r) for r in rows])[:, None]
        hidden = teacher(input_ids=tokens.to(device), attention_mask=mask.to(device)).last_hidden_state.float()
        weight = mask.to(device)[..., None].float()
        vectors.append(functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=1).half())
        start += size
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(vectors)[back.to(device)]


def fitted(
    start: torch.Tensor, texts: Tokens, targets: torch.Tensor, *, epochs: int, batch: int, relations: float
) -> torch.Tensor:
    """The table, float32 (V, d). `relations` weighs the error in the cosines within a batch."""
    device = targets.device
    table = torch.nn.Parameter(start.clone())
    lengths = torch.tensor([len(t) for t in texts])
    flat = torch.tensor([token for t in texts for token in t], dtype=torch.int32)
    begins = torch.cumsum(lengths, 0) - lengths
    steps = epochs * (len(texts) // batch)
    optimiser = torch.optim.Adam([table], lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-2, total_steps=steps + 1, pct_start=0.1)
    generator = torch.Generator().manual_seed(0)
    flat, begins, lengths = flat.to(device), begins.to(device), lengths.to(device)
    for _ in range(epochs):
        order = torch.randperm(len(texts), generator=generator).to(device)
        for at in range(len(texts) // batch):
            rows = order[at * batch : (at + 1) * batch]
            n = lengths[rows]
            offsets = torch.cumsum(n, 0) - n
            within = torch.arange(int(n.sum()), device=device) - torch.repeat_interleave(offsets, n)
            tokens = flat[torch.repeat_interleave(begins[rows], n) + within]
            made = functional.normalize(functional.embedding_bag(tokens, table, offsets.int(), mode="sum"), dim=1)
            wanted = targets[rows].float()
            loss = 1.0 - (made * wanted).sum(1).mean()
            if relations:
                few = slice(0, 2048)
                loss = loss + relations * ((made[few] @ made[few].T - wanted[few] @ wanted[few].T) ** 2).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return table.detach()


def fidelity(table: torch.Tensor, texts: Tokens, targets: torch.Tensor) -> tuple[float, float]:
    """Mean cosine to the teacher, and how many of its ten nearest neighbours are kept, on held-out texts."""
    made = functional.normalize(torch.stack([table[torch.tensor(t, device=table.device)].sum(0) for t in texts]), dim=1)
    wanted = targets.float()
    cosine = (made * wanted).sum(1).mean()
    near = []
    for vectors in (made, wanted):
        close = vectors @ vectors.T
        close.fill_diagonal_(-9.0)
        near.append(close.topk(10).indices.cpu().numpy())
    kept = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*near, strict=True)])
    return float(cosine), float(kept)


def packed(table: NDArray[np.float32], vocabulary: tuple[str, ...]) -> Table:
    """The table in 8 bits; its digest is known once it is read."""
    scale = (table.std(axis=0) * STEP).astype(np.float32)
    rows = np.round(table / scale).clip(-127, 127).astype(np.int8)
    return Table(rows=rows, scale=scale, vocabulary=vocabulary, digest="")


def main() -> None:
    from transformers import AutoModel

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--teacher", type=Path, required=True, help="folder with the teacher's weights")
    parser.add_argument("--out", type=Path, required=True, help="the table, .npz")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--texts", type=int, default=1_500_000, help="real texts at most")
    parser.add_argument("--invented", type=int, default=800_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--relations", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=16)
    told = parser.parse_args()
    began = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rng = np.random.default_rng(0)

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)

    tokenizer = Tokenizer.from_file(str(told.teacher / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(WINDOW)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    paths = sysconfig.get_paths()
    texts = corpus([Path(paths["purelib"]), Path(paths["stdlib"])], told.workers)
    rng.shuffle(texts)
    say(f"{len(texts)} texts")
    real = [e.ids for e in tokenizer.encode_batch(texts[: told.texts], add_special_tokens=False) if e.ids]
    tokens = real + invented(real[HELD_OUT:], len(vocabulary), count=told.invented, rng=rng)
    say(f"{len(tokens)} with invented ones, {sum(map(len, tokens)) / len(tokens):.1f} tokens each")
    teacher = AutoModel.from_pretrained(told.teacher, dtype=torch.float16 if device == "cuda" else torch.float32)
    teacher = teacher.to(device).eval()
    special = (int(tokenizer.token_to_id("[CLS]") or 0), int(tokenizer.token_to_id("[SEP]") or 0))
    targets = taught(teacher, tokens, special, device)
    say("taught")
    words: NDArray[np.float32] = teacher.embeddings.word_embeddings.weight.detach().float().cpu().numpy()
    _, axes = torch.linalg.eigh((targets[HELD_OUT:].float().T @ targets[HELD_OUT:].float()).double())
    axes = axes.flip(1).float()  # of the teacher's vectors, the widest first
    wanted = functional.normalize(targets.float() @ axes[:, : told.width], dim=1).half()
    start = torch.tensor(words, device=device) @ axes[:, : told.width] * 0.1
    table = fitted(
        start,
        tokens[HELD_OUT:],
        wanted[HELD_OUT:],
        epochs=told.epochs,
        batch=told.batch,
        relations=told.relations,
    )
    cosine, kept = fidelity(table, tokens[:HELD_OUT], wanted[:HELD_OUT])
    say(f"held-out texts: cosine {cosine:.4f}, {kept:.3f} of the ten nearest are kept")
    packed(table.cpu().numpy(), tuple(piece for piece, _ in vocabulary)).write(told.out)


if __name__ == "__main__":
    main()
