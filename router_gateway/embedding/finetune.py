"""Tunes a sentence-transformers encoder on outcomes, so that queries which the same endpoints answer well lie together.

Three losses on the unit vector x of a query with outcomes q_1..q_E, summed with their weights:

- success: binary cross-entropy of sigmoid(s x·w_e + b_e) against q_e, one task per endpoint, unknown outcomes left out;
- endpoints: with similarities cos(x, w_e) / t, each of the best `kept` endpoints against the worst `kept` that failed
  (the sample-LLM loss of Chen et al., 2024, "RouterDC", arXiv 2409.19886);
- kinds: x against one other query of the batch of its k-means kind and all those of other kinds (the sample-sample
  loss of the same paper; kinds are found among the vectors of the untuned encoder).

What is written is an ordinary sentence-transformers folder. The heads w, b are thrown away: a policy learns its own.
torch is imported when `tune` is called, never when this module is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le

from router_gateway.core.errors import ConfigError, DataError
from router_gateway.core.types import Floats, Ints
from router_gateway.embedding.canonical import clean
from router_gateway.embedding.pretrained import CHARS_PER_TOKEN_MAX

if TYPE_CHECKING:
    import torch

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How an encoder is tuned.

    rate, head_rate : learning rates of the encoder and of the heads
    endpoints_weight, kinds_weight : of these losses beside success, whose weight is 1
    """

    epochs: Annotated[int, Ge(1), Le(100)] = 4
    batch: Annotated[int, Ge(2), Le(4_096)] = 64
    rate: Annotated[float, Gt(0), Le(0.01)] = 5e-5
    head_rate: Annotated[float, Gt(0), Le(1)] = 3e-3
    endpoints_weight: Annotated[float, Ge(0)] = 0.1
    kinds_weight: Annotated[float, Ge(0)] = 0.0
    kinds: Annotated[int, Ge(2)] = 20
    kept: Annotated[int, Ge(1)] = 3
    temperature: Annotated[float, Gt(0)] = 0.1
    weight_decay: Annotated[float, Ge(0)] = 0.01
    seed: Annotated[int, Ge(0)] = 0


def tune(
    model: str | Path,
    texts: Sequence[str],
    quality: Floats,
    out: Path,
    *,
    tuning: Tuning | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Tune `model` on `texts` and their outcomes; write the encoder to the folder `out`, which it returns.

    model : a local folder, or a name the model hub knows
    quality : (Q, E) in [0, 1], NaN where unknown
    device : as torch names it; None for a GPU where there is one
    Raises DataError for outcomes that do not fit the texts, ConfigError for a device that is not there.
    """
    settings = tuning or Tuning()
    _check(texts, quality)
    import torch
    from sentence_transformers import SentenceTransformer

    if device and device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError([f"device {device}: torch sees none here"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        encoder = SentenceTransformer(str(model), device=device).float()  # weights may be stored in half precision
        encoder.tokenizer.truncation_side = "left"  # as when serving: the question comes last
        window = encoder.max_seq_length or encoder.tokenizer.model_max_length
        tails = [clean(text[-window * CHARS_PER_TOKEN_MAX :]) for text in texts]
        kinds = _kinds(encoder, tails, settings) if settings.kinds_weight else np.zeros(len(tails), dtype=np.int64)
        _train(encoder, tails, np.asarray(quality, dtype=np.float32), kinds, settings, progress or (lambda *_: None))
        out.mkdir(parents=True, exist_ok=True)
        encoder.save(str(out), create_model_card=False)
    return out


def success_loss(logits: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the known outcomes; both (B, E), NaN in `quality` where unknown."""
    import torch

    known = ~torch.isnan(quality)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits[known], quality[known])


def endpoints_loss(similarity: torch.Tensor, quality: torch.Tensor, *, kept: int) -> torch.Tensor:
    """Mean over queries and their best `kept` endpoints with q > 0 of -log(e^s / (e^s + sum of e^s' over the worst)).

    similarity, quality : (B, E); the worst are the last `kept` with q <= 1/2, unknown outcomes take no part
    """
    import torch

    kept = min(kept, quality.shape[1])
    high = torch.where(torch.isnan(quality), -1.0, quality)
    low = torch.where(torch.isnan(quality), 2.0, quality)
    best, worst = high.topk(kept, dim=1), low.topk(kept, dim=1, largest=False)
    positive = similarity.gather(1, best.indices)
    negative = similarity.gather(1, worst.indices).masked_fill(worst.values > 0.5, -torch.inf)
    against = torch.logaddexp(positive, negative.logsumexp(dim=1, keepdim=True))
    counted = (best.values > 0) & (worst.values <= 0.5).any(dim=1, keepdim=True)
    each = torch.where(counted, against - positive, torch.zeros_like(positive))
    return each.sum() / counted.sum().clamp(min=1)


def kinds_loss(vectors: torch.Tensor, kinds: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Mean over queries of -log softmax of the next query of their kind among it and all of other kinds."""
    import torch

    cosine = vectors @ vectors.T / temperature
    same = kinds[:, None] == kinds[None, :]
    other = same & ~torch.eye(len(kinds), dtype=torch.bool, device=kinds.device)
    counted = other.any(dim=1)
    partner = other.float().argmax(dim=1)
    positive = cosine.gather(1, partner[:, None])[:, 0]
    against = torch.logaddexp(positive, cosine.masked_fill(same, -torch.inf).logsumexp(dim=1))
    each = torch.where(counted, against - positive, torch.zeros_like(positive))
    return each.sum() / counted.sum().clamp(min=1)


def _train(encoder: Any, texts: list[str], quality: Floats, kinds: Ints, settings: Tuning, progress: Progress) -> None:
    import torch

    device = encoder.device
    outcomes = torch.from_numpy(quality).to(device)
    kind = torch.from_numpy(kinds).to(device)
    width = encoder.get_embedding_dimension()
    head = torch.nn.Linear(width, quality.shape[1], device=device)
    torch.nn.init.normal_(head.weight, std=width**-0.5)
    mean = np.clip(np.nanmean(np.where(np.isnan(quality).all(axis=0), 0.5, quality), axis=0), 0.01, 0.99)
    head.bias.data = torch.from_numpy(np.log(mean / (1 - mean)).astype(np.float32)).to(device)
    scale = torch.nn.Parameter(torch.tensor(1.0, device=device))
    groups = [
        {"params": list(encoder.parameters()), "lr": settings.rate},
        {"params": [*head.parameters(), scale], "lr": settings.head_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    starts = range(0, len(texts), settings.batch)
    steps = settings.epochs * len(starts)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [settings.rate, settings.head_rate], total_steps=steps, pct_start=0.1, cycle_momentum=False
    )
    encoder.train()
    done = 0
    for _ in range(settings.epochs):
        order = torch.randperm(len(texts))
        for start in starts:
            rows = order[start : start + settings.batch]
            inputs = encoder.preprocess([texts[i] for i in rows.tolist()])
            inputs = {name: value.to(device) for name, value in inputs.items() if isinstance(value, torch.Tensor)}
            vectors = torch.nn.functional.normalize(encoder(inputs)["sentence_embedding"], dim=-1)
            asked = outcomes[rows.to(device)]
            loss = success_loss(scale * vectors @ head.weight.T + head.bias, asked)
            if settings.endpoints_weight:
                similarity = vectors @ torch.nn.functional.normalize(head.weight, dim=-1).T / settings.temperature
                loss = loss + settings.endpoints_weight * endpoints_loss(similarity, asked, kept=settings.kept)
            if settings.kinds_weight:
                contrast = kinds_loss(vectors, kind[rows.to(device)], temperature=settings.temperature)
                loss = loss + settings.kinds_weight * contrast
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done += 1
            progress(done, steps)
    encoder.eval()


def _kinds(encoder: Any, texts: list[str], settings: Tuning) -> Ints:
    """int64 (Q,), k-means among the untuned vectors."""
    from sklearn.cluster import KMeans

    vectors = encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    count = min(settings.kinds, len(texts))
    found = KMeans(n_clusters=count, n_init=1, random_state=settings.seed).fit_predict(vectors)
    return np.asarray(found, dtype=np.int64)


def _check(texts: Sequence[str], quality: Floats) -> None:
    if quality.ndim != 2 or len(quality) != len(texts):
        raise DataError([f"{len(texts)} texts, but outcomes of shape {quality.shape}"])
    known = ~np.isnan(quality)
    if len(texts) < 2 or not known.any():
        raise DataError(["an encoder cannot be tuned on fewer than two texts with outcomes"])
    if (quality[known] < 0).any() or (quality[known] > 1).any():
        raise DataError(["outcomes must lie in [0, 1]"])
