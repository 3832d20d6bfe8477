"""`make starter-prior`: fits router_gateway/learning/assets/starter_prior.npz on openly licensed outcomes.

How much easier or harder than others a query is, and how much that matters to abler endpoints, is learned as a linear
function of its vector (of the default encoder) from all sources together:

    quality = sigmoid(c_s + u'x + (1 + v'x) logit(a_m))     x centred within its source s; a_m the endpoint's mean there

by L-BFGS on the cross-entropy, each query counting once, plus EASE |u|² / 2 + SLOPE |v|² / 2. The labels easy, medium
and hard of datasets/starter.jsonl are one source more, as the outcomes of one imagined endpoint. What is shipped are u
and v, VECTORS centres of the sources' vectors, and both functions' values at PROMPTS prompts of that file, chosen to
stand for all of it, with the prompts: no text and no outcome of anybody else.

Penalties and the labels' weight were chosen where fourtier was routed best by the map of mmlu_pro and the labels alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from router_gateway.core.errors import GatewayError
from router_gateway.core.types import Floats
from router_gateway.embedding.static import StaticEmbedder
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.fitting import embed_all, read_source
from router_gateway.evaluation.packaged import data_folder
from router_gateway.evaluation.starter import read_starter
from router_gateway.learning.starter import ASSET, StarterPrior
from router_gateway.probing.choosing import representative

EASE, SLOPE = 3.0, 30.0
PROMPTS, VECTORS = 64, 256
_TYPICAL_OF_EACH = 600
LABELS = {"easy": 0.9, "medium": 0.7, "hard": 0.5}
"""What the imagined endpoint brings."""
LABELS_COUNT = 5
_ROOT = Path(__file__).resolve().parents[1]
_STARTER = _ROOT / "datasets" / "starter.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Vectors float32 (Q, d) of one source's queries, and outcomes (Q, E), NaN where unknown."""

    vectors: Floats
    quality: Floats

    @classmethod
    def of(cls, table: Benchmark, embedder: StaticEmbedder) -> Source:
        return cls(vectors=embed_all(embedder, table.prompts), quality=table.quality.astype(np.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """u and v, float64 (d,)."""

    ease: Floats
    slope: Floats

    def prior(self, sources: Sequence[Source], embedder: StaticEmbedder, provenance: dict[str, Any]) -> StarterPrior:
        """What is shipped: the map, typical queries of all sources, and starter prompts with the map's values."""
        texts, vectors = prototypes(embedder)
        apart = vectors - vectors.mean(axis=0, dtype=np.float64)
        return StarterPrior(
            space=embedder.space,
            vectors=typical(sources),
            ease=self.ease,
            slope=self.slope,
            texts=tuple(texts),
            text_ease=apart @ self.ease,
            text_slope=1.0 + apart @ self.slope,
            provenance=provenance,
        )


def fit(sources: Sequence[Source], *, ease: float = EASE, slope: float = SLOPE) -> Map:
    """The map of all sources."""
    from scipy.optimize import minimize

    width = sources[0].vectors.shape[1]
    parts = [_prepared(source) for source in sources]

    def loss(theta: Floats) -> tuple[float, Floats]:
        u, v, own = theta[:width], theta[width : 2 * width], theta[2 * width :]
        total = ease / 2 * float(u @ u) + slope / 2 * float(v @ v)
        gradient = np.concatenate([ease * u, slope * v, np.zeros(len(parts))])
        for s, (x, quality, weight, logit) in enumerate(parts):
            z = own[s] + (x @ u)[:, None] + (1.0 + x @ v)[:, None] * logit
            total += float((weight * (np.logaddexp(0.0, z) - quality * z)).sum())
            residual = weight * (1.0 / (1.0 + np.exp(-z)) - quality)
            gradient[:width] += x.T @ residual.sum(axis=1)
            gradient[width : 2 * width] += x.T @ (residual @ logit)
            gradient[2 * width + s] += residual.sum()
        return total, gradient

    start = np.zeros(2 * width + len(parts))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    return Map(ease=found[:width], slope=found[width : 2 * width])


def labelled(embedder: StaticEmbedder) -> Source:
    """The labels of the starter prompts as outcomes of one endpoint, each counting several times: they are few."""
    prompts = read_starter(_STARTER)
    outcomes = np.array([[LABELS[prompt.difficulty]] for prompt in prompts])
    vectors = embed_all(embedder, [prompt.prompt for prompt in prompts])
    return Source(vectors=np.tile(vectors, (LABELS_COUNT, 1)), quality=np.tile(outcomes, (LABELS_COUNT, 1)))


def typical(sources: Sequence[Source]) -> Floats:
    """float32 (VECTORS, d): centres of k-means over all sources, each with an equal part, of unit length."""
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(0)
    parts = [source.vectors[rng.permutation(len(source.vectors))[:_TYPICAL_OF_EACH]] for source in sources]
    centres = KMeans(n_clusters=VECTORS, n_init=1, random_state=0).fit(np.concatenate(parts)).cluster_centers_
    return np.asarray(centres / np.linalg.norm(centres, axis=1, keepdims=True), dtype=np.float32)


def prototypes(embedder: StaticEmbedder, n: int = PROMPTS) -> tuple[list[str], Floats]:
    """Starter prompts that stand for all of them, and their vectors."""
    texts = [prompt.prompt for prompt in read_starter(_STARTER)]
    vectors = embed_all(embedder, texts)
    rows, _ = representative(vectors, vectors, n)
    return [texts[row] for row in rows], vectors[rows]


def _prepared(source: Source) -> tuple[Floats, Floats, Floats, Floats]:
    known = np.isfinite(source.quality)
    weight = known / np.maximum(known.sum(axis=1, keepdims=True), 1)
    mean = np.clip(np.nanmean(source.quality, axis=0), 1e-3, 1 - 1e-3)
    apart = source.vectors - source.vectors.mean(axis=0, dtype=np.float64)
    return apart, np.nan_to_num(source.quality), weight, np.log(mean / (1 - mean))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of mmlu_pro and fourtier")
    parser.add_argument("--out", type=Path, default=ASSET)
    arguments = parser.parse_args()
    embedder = StaticEmbedder()
    files = [arguments.data / "mmlu_pro.parquet", arguments.data / "fourtier.parquet"]
    tables = [read_source(str(file))[0].deduplicated() for file in files]
    tables.append(read_source("paretobandit:test_holdout")[0].deduplicated())  # `val` is fourtier's prompts
    outcomes = [*(Source.of(table, embedder) for table in tables), labelled(embedder)]
    files.append(data_folder() / "test_holdout.jsonl")
    sources = [
        {
            "name": name,
            "file": file.name,
            "sha256": _sha256(file),
            "licence": "Apache-2.0",
            "queries": len(table),
            "endpoints": len(table.endpoints),
        }
        for name, file, table in zip(("mmlu_pro", "fourtier", "paretobandit"), files, tables, strict=True)
    ]
    sources.append(
        {
            "name": "starter",
            "file": _STARTER.name,
            "sha256": _sha256(_STARTER),
            "licence": "Apache-2.0",
            "labels": LABELS,
        }
    )
    provenance = {
        "command": "make starter-prior",
        "sources": sources,
        "embedding_space": embedder.space,
        "penalties": {"ease": EASE, "slope": SLOPE},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("numpy", "scipy")},
    }
    prior = fit(outcomes).prior(outcomes, embedder, provenance)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    prior.write(arguments.out)
    print(json.dumps(provenance, indent=1))
    spread = f"ease {prior.text_ease.std():.2f}, slope {prior.text_slope.std():.2f} (standard deviations)"
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes; {spread}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GatewayError as error:
        sys.exit(f"error: {error.message} {error.hint or ''}")
