"""Whether a second encoder pays where the first is in doubt: `static`, and MiniLM where the policy's margin is small.

    python -P benchmarks/two_tier.py FILE.parquet ... --out docs/results/two_tier.json

Each split fits the policy in both spaces. A text whose two best endpoints lie closer together than in the given share
of the training texts is read by MiniLM as well, and scored in its space; share 0 is `static` alone, 1 MiniLM alone.
`drawn` sends as many texts on, but any: what the margin itself is worth is the difference. Share of the gap from the
zero router to the oracle that is closed (protocol pooled), and the mean time of a text of 100 word pieces, from
`embed_ms` of docs/results/encoder_choice.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from router_gateway import registry
from router_gateway.core.experience import Experience
from router_gateway.core.protocols import Policy
from router_gateway.core.types import Floats, Queries, Scores
from router_gateway.evaluation.embeddings import Encoder, default_cache
from router_gateway.evaluation.prepared import Prepared, load_tables, prepare
from router_gateway.evaluation.sitting import Spec, sit

SHARES = (0.0, 0.1, 0.25, 0.5, 1.0)
FIRST, SECOND = "static", "onnx"
CHOICE = Path(__file__).resolve().parents[1] / "docs" / "results" / "encoder_choice.json"
_fitted: dict[bytes, tuple[Policy, Policy]] = {}
"""By what they learned from: the shares of one split differ in nothing else."""


@dataclass(kw_only=True)
class TwoTier:
    """Two fits of one policy on vectors that stand side by side, `width` components of the first.

    share : of the texts whose margin is least, which the second scores; or, `by` drawn, of any
    """

    policy: str
    width: int
    share: float
    by: Literal["margin", "drawn"] = "margin"
    tiers_: tuple[Policy, Policy] | None = field(default=None, repr=False)
    margin_: float = -1.0

    def fit(self, experience: Experience) -> Self:
        queries = experience.queries
        key = hashlib.blake2b(queries.embedding.tobytes()).digest()
        if key not in _fitted:
            first, second = (
                registry.create(self.policy, {}).fit(replace(experience, queries=own)) for own in self._apart(queries)
            )
            _fitted[key] = first, second
        self.tiers_ = _fitted[key]
        margins = _margin(self.tiers_[0].score(self._apart(queries)[0]))
        self.margin_ = float(np.quantile(margins, self.share)) if self.share > 0 else -1.0
        return self

    def partial_fit(self, experience: Experience) -> Self:
        raise NotImplementedError("this benchmark fits")

    def score(self, queries: Queries) -> Scores:
        assert self.tiers_ is not None  # fitted
        own, other = self._apart(queries)
        scores = self.tiers_[0].score(own)
        if self.by == "margin":
            sent = _margin(scores) <= self.margin_
        else:
            sent = np.array([hashlib.blake2b(v.tobytes(), digest_size=1).digest()[0] for v in own.embedding]) < (
                256 * self.share
            )
        if not sent.any():
            return scores
        again = self.tiers_[1].score(other).align(scores.endpoints)
        here = sent[:, None]
        return replace(
            scores,
            quality=np.where(here, again.quality, scores.quality),
            stddev=np.where(here, again.stddev, scores.stddev),
        )

    def save(self, directory: Path) -> None:
        raise NotImplementedError("this benchmark keeps nothing")

    @classmethod
    def load(cls, directory: Path) -> Self:
        raise NotImplementedError("this benchmark keeps nothing")

    def _apart(self, queries: Queries) -> tuple[Queries, Queries]:
        vectors = queries.embedding
        return (
            replace(queries, embedding=np.ascontiguousarray(vectors[:, : self.width]), space=FIRST),
            replace(queries, embedding=np.ascontiguousarray(vectors[:, self.width :]), space=SECOND),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _TwoTierSpec(Spec):
    tier: TwoTier

    def build(self) -> Policy:
        return replace(self.tier)


def _margin(scores: Scores) -> Floats:
    """How far apart the two best of each row are in quality."""
    ordered = np.sort(scores.quality, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def side_by_side(source: str) -> list[tuple[str, Prepared, int]]:
    """Sets with the vectors of both encoders in one row, and how many components the first has."""
    found = []
    for name, table in load_tables(source):
        first, second = (
            prepare(name, table, encoder=Encoder.named(kind), cache=default_cache()) for kind in (FIRST, SECOND)
        )
        vectors = np.concatenate([first.embedding, second.embedding], axis=1)
        both = replace(first, embedding=vectors, space=f"{first.space} {second.space}")
        found.append((name, both, first.embedding.shape[1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="outcomes, as for `router-gateway evaluate`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--policy", default="clusters")
    parser.add_argument("--seeds", type=int, default=5)
    told = parser.parse_args()
    embed_ms = {k: own["embed_ms"]["100"] for k, own in json.loads(CHOICE.read_text("utf-8"))["encoders"].items()}
    names = " ".join(Path(source).name for source in told.sources)
    result: dict[str, Any] = {
        "command": f"python -P benchmarks/two_tier.py {names} --out docs/results/two_tier.json",
        "policy": told.policy,
        "seeds": told.seeds,
        "embed_ms": {str(s): round(embed_ms[FIRST] * (s < 1) + s * embed_ms[SECOND], 4) for s in SHARES},
        "sets": {},
    }
    kinds: list[tuple[float, Literal["margin", "drawn"]]] = [(share, "margin") for share in SHARES]
    kinds += [(share, "drawn") for share in SHARES[1:-1]]
    for source in told.sources:
        for name, prepared, width in side_by_side(source):
            rows: dict[str, list[float]] = {}
            for seed in range(told.seeds):
                for share, by in kinds:
                    tier = TwoTier(policy=told.policy, width=width, share=share, by=by)
                    spec = _TwoTierSpec(name=told.policy, label="two_tier", tier=tier)
                    (part,) = sit(spec, prepared, protocol="pooled", seed=seed, variants={})["parts"].values()
                    rows.setdefault(f"{by} {share:g}", []).append(round(float(part["gap_closed"]), 4))
                _fitted.clear()
                print(name, seed, {key: own[-1] for key, own in rows.items()}, flush=True)
            result["sets"][name] = rows
    told.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
