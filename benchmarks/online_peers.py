"""Peers for `make online`: ParetoBandit as its paper runs it, and MABWiser's linear bandits behind our pacer.

Neither is part of the product: `make online` installs them beside it.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from online_stream import Offline

from router_gateway.core.experience import Experience
from router_gateway.core.types import Endpoint, Floats, Ints, Queries, Scores
from router_gateway.evaluation.online import Stream

SCALE = 1 / 16
"""MABWiser's upper bounds leave [0, 1]; a sixteenth of them around a half does not, and a dial follows any scale."""


class ParetoBandit:
    """`pareto_bandit.BanditRouter` with its defaults, its pacer, its PCA of 25 components, and no fixed cost penalty.

    prior : "shipped" is the package's own, learned from 8,374 prompts of the source that the stream comes from;
        "offline" is made by the package from the offline part; "none" is its documented start without one
    """

    def __init__(self, stream: Stream, usd_per_request: float, *, prior: str, seed: int, offline: Offline) -> None:
        from pareto_bandit.budget_pacer import BudgetPacer
        from pareto_bandit.config import BEST_K3_HPARAMS, BEST_K3_TABULA_RASA_HPARAMS
        from pareto_bandit.feature_service import FeatureService
        from pareto_bandit.router import BanditRouter

        logging.getLogger("pareto_bandit").setLevel(logging.ERROR)
        self._names = [endpoint.name for endpoint in stream.endpoints]
        self._registered = {n for n, there in zip(self._names, stream.available[0], strict=True) if there}
        self._features = _features(stream.embedding)
        settings = BEST_K3_TABULA_RASA_HPARAMS if prior == "none" else BEST_K3_HPARAMS
        with tempfile.TemporaryDirectory() as folder:
            chosen = {"warmup_path": _prior(offline, Path(folder))} if prior == "offline" else {}
            self._router = BanditRouter.create(
                model_registry={e.name: _prices(e) for e in stream.endpoints if e.name in self._registered},
                feature_service=FeatureService.for_precomputed(self._features.shape[1]),
                priors="warmup" if prior in ("shipped", "offline") else "none",
                prior_n_effective=settings["prior_n_effective"],
                alpha=settings["alpha"],
                forgetting_factor=settings["forgetting_factor"],
                cost_penalty=0.0,
                budget_pacer=BudgetPacer(usd_per_request),
                bandit_seed=seed,
                **chosen,
            )
        self._log: Any = None

    def choose(self, stream: Stream, t: int) -> int:
        for endpoint, there in zip(stream.endpoints, stream.available[t], strict=True):
            if there and endpoint.name not in self._registered:
                self._registered.add(endpoint.name)
                self._router.register_model(endpoint.name, **_prices(endpoint))
        name, self._log = self._router.route(self._features[t])
        return self._names.index(name)

    def learn(self, stream: Stream, t: int, chosen: int, quality: float, cost_usd: float) -> None:
        self._log.cost_usd = cost_usd
        self._router.process_feedback(self._log.request_id, reward=quality)

    def reprice(self, endpoints: Sequence[Endpoint]) -> None:
        for endpoint in endpoints:
            if endpoint.name in self._registered:
                self._router.update_model_pricing(endpoint.name, **_prices(endpoint))


def _prices(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "input_cost_per_m": float(endpoint.price_input_usd_per_mtok),
        "output_cost_per_m": float(endpoint.price_output_usd_per_mtok),
    }


def _pca() -> Any:
    import joblib
    from pareto_bandit.config import DEFAULT_PCA_PATH

    return joblib.load(DEFAULT_PCA_PATH)


def _features(embedding: Floats) -> Floats:
    """What its FeatureService makes of MiniLM vectors: 25 whitened components, then 1."""
    pca = _pca()
    whitened = pca.transform(embedding) / np.sqrt(np.maximum(pca.explained_variance_, 1e-12))
    return np.column_stack([whitened, np.ones(len(embedding))])


def _prior(offline: Offline, folder: Path) -> str:
    from pareto_bandit.calibration import generate_warmup_priors

    stream = offline.stream
    seen = [i for i in range(len(stream.endpoints)) if i not in offline.hidden]
    names = [stream.endpoints[i].name for i in seen]
    prompts = [query.text for query in stream.queries]
    path = folder / "prior.joblib"
    generate_warmup_priors(
        [
            {"prompt": prompt, "rewards": dict(zip(names, map(float, row), strict=True))}
            for prompt, row in zip(prompts, stream.quality[:, seen], strict=True)
        ],
        encoder_model="all-MiniLM-L6-v2",
        pca=_pca(),
        output_path=path,
        precomputed_raw_embeddings={
            hashlib.sha256(prompt.encode()).hexdigest(): vector
            for prompt, vector in zip(prompts, stream.embedding, strict=True)
        },
    )
    return str(path)


@dataclass(kw_only=True)
class MabWiser:
    """MABWiser's LinUCB or LinTS as a policy: it has no budget, so it decides through our router and pacer.

    kind : "LinUCB" or "LinTS"
    alpha, l2_lambda : as MABWiser has them
    centre, whitening : (d,) and (d, k); its contexts are [1, (x - centre) @ whitening]
    """

    kind: str
    centre: Floats
    whitening: Floats
    alpha: float = 1.0
    l2_lambda: float = 1.0
    seed: int = 0
    endpoints_: tuple[str, ...] = ()
    bandit_: Any = field(default=None, repr=False)

    def fit(self, experience: Experience) -> Self:
        from mabwiser.mab import MAB, LearningPolicy

        own = getattr(LearningPolicy, self.kind)(alpha=self.alpha, l2_lambda=self.l2_lambda)
        self.endpoints_ = experience.endpoints
        self.bandit_ = MAB(arms=list(range(len(self.endpoints_))), learning_policy=own, seed=self.seed)
        nothing: Ints = np.zeros(1, dtype=np.int64)  # it wants a first outcome; weightless: its context is nought
        self.bandit_.fit(nothing, np.zeros(1), np.zeros((1, 1 + self.whitening.shape[1])))
        return self.partial_fit(experience) if len(experience) else self

    def partial_fit(self, experience: Experience) -> Self:
        context = self._context(experience.queries.embedding)[experience.query]
        self.bandit_.partial_fit(experience.endpoint, experience.quality.astype(np.float64), context)
        return self

    def score(self, queries: Queries) -> Scores:
        told = self.bandit_.predict_expectations(self._context(queries.embedding))
        rows = [told] if isinstance(told, dict) else told
        value = np.array([[row[arm] for arm in range(len(self.endpoints_))] for row in rows])
        quality = np.clip(0.5 + SCALE * (value - 0.5), 0.0, 1.0).astype(np.float32)
        return Scores(endpoints=self.endpoints_, quality=quality, stddev=np.zeros_like(quality))

    def _context(self, embedding: Floats) -> Floats:
        return np.column_stack([np.ones(len(embedding)), (embedding - self.centre) @ self.whitening])

    def save(self, directory: Path) -> None:
        """Never served, never saved."""
        raise NotImplementedError

    @classmethod
    def load(cls, directory: Path) -> Self:
        """See `save`."""
        raise NotImplementedError
