"""LLM Bandit's router, trained for all prices: what `preference_conditioned.py` compares.

After Li, 2025, "LLM Bandit: Cost-efficient LLM generation via preference-conditioned dynamic routing" (arXiv
2502.02743), in three stages:

1. Variational item response theory: endpoint k is I_k ~ N(mu_k, diag sigma_k²) with prior N(0, 1), and
   phat_k(x) = sigmoid f(x, I_k) by cross-entropy to the outcomes plus the divergence from the prior.
2. A policy pi(k) = softmax_k mu_k . h(x, C, omega) over a set C of endpoints, each (mu_k, c_k, phat_k), and a
   preference omega = (1, w), w ~ U(0, 2), imitates argmax_k phat_k / max_j phat_j - w c_k. Costs c run from 0 to 1 over
   the pool.
3. Proximal policy gradient (clip 0.2) over episodes of one step with reward (quality, -c) of the endpoint drawn,
   weighed by omega, against a value (V_1, V_2)(x, C) that is not told omega.

Departures: no comparisons in stage 1 and so no Platt scaling by them, graded outcomes as soft targets rather than cut
in two, no mixup in stage 3. While stages 2 and 3 learn, phat is that of queries stage 1 has not seen (folds of train),
or they would learn to trust it too much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from router_gateway.core.types import Floats, Ints

PREFERENCE_MAX, PREFERENCE_DECADES = 2.0, 4.0
IDENTITY, HIDDEN, HEADS = 32, 64, 4
FOLDS = 3
SCALE = 3.0  # of unit vectors, whose numbers are then about 0.15
EPOCHS, IRT_BATCH = 8, 64  # of queries, each with every endpoint; more learn the training outcomes by heart
PRETRAIN_STEPS, BATCH = 500, 1_024
ROLLOUTS, PASSES, CLIP = 60, 4, 0.2
RATE, TUNING_RATE = 1e-3, 1e-4
Draw = Callable[[int], Tensor]


def unit_costs(cost_usd: Floats) -> Floats:
    """Costs of a pool on a scale from 0, the cheapest, to 1; all 0 where they are equal."""
    span = float(np.ptp(cost_usd))
    return np.asarray((cost_usd - cost_usd.min()) / span if span > 0 else np.zeros_like(cost_usd))


def imitated(quality: Tensor, cost: Tensor, preference: Tensor) -> Tensor:
    """(B,): the endpoint that maximises quality, as a share of the pool's best, minus preference times cost.

    quality (B, E), cost (E,), preference (B,)
    """
    share = quality / quality.amax(dim=1, keepdim=True).clamp_min(1e-6)
    return (share - preference[:, None] * cost).argmax(dim=1)


def uniform(count: int) -> Tensor:
    """Preferences as in the paper."""
    return PREFERENCE_MAX * torch.rand(count)


def log_uniform(count: int) -> Tensor:
    """Preferences of all magnitudes: where one endpoint costs 100 times another, most that matter are small."""
    return torch.as_tensor(PREFERENCE_MAX * 10.0 ** (-PREFERENCE_DECADES * torch.rand(count)))


def clipped_loss(log_chance: Tensor, log_chance_before: Tensor, advantage: Tensor) -> Tensor:
    """PPO's surrogate: no gain from moving a choice's probability by more than the share CLIP in its favour."""
    ratio = (log_chance - log_chance_before).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage).mean()


def divergence(mean: Tensor, log_sd: Tensor) -> Tensor:
    """KL(N(mean, sd²) || N(0, 1)), summed over dimensions."""
    return 0.5 * (mean**2 + (2 * log_sd).exp() - 1 - 2 * log_sd).sum()


class ItemResponse(nn.Module):
    """Stage 1: identities with doubt, and one network for all of them that says how a query goes."""

    def __init__(self, width: int, endpoints: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.randn(endpoints, IDENTITY))
        self.log_sd = nn.Parameter(torch.full((endpoints, IDENTITY), -2.0))
        self.of_query, self.of_identity = nn.Linear(width, HIDDEN), nn.Linear(IDENTITY, HIDDEN)
        self.inner, self.outcome = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 1)

    def forward(self, embedding: Tensor, identity: Tensor) -> Tensor:
        """Log odds (B, E)."""
        hidden = functional.gelu(self.of_query(embedding)[:, None] + self.of_identity(identity))
        return torch.as_tensor(self.outcome(functional.gelu(self.inner(hidden)))[..., 0])

    def loss(self, embedding: Tensor, quality: Tensor, cells: int) -> Tensor:
        """Evidence bound per outcome, with one draw of the identities per query; NaN qualities are left out."""
        noise = torch.randn(len(embedding), *self.mean.shape)
        odds = self(embedding, self.mean + self.log_sd.exp() * noise)
        known = quality.isfinite()
        fit = functional.binary_cross_entropy_with_logits(odds[known], quality[known])
        return fit + divergence(self.mean, self.log_sd) / cells

    @torch.no_grad()
    def estimate(self, embedding: Tensor) -> Tensor:
        """Quality phat (Q, E), at the mean identities."""
        return torch.sigmoid(self(embedding, self.mean))


class Pool(nn.Module):
    """A query and a set of endpoints, attention-pooled: the order of the endpoints changes nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token, self.attention = nn.Linear(IDENTITY + 2, HIDDEN), nn.Linear(HIDDEN, HEADS)
        self.query = nn.Linear(width, HIDDEN)

    def forward(self, embedding: Tensor, context: Tensor) -> Tensor:
        """(B, (HEADS + 1) * HIDDEN) from embeddings (B, d) and contexts (B, E, IDENTITY + 2)."""
        token = functional.relu(self.token(context))
        pooled_set = torch.einsum("beh,bek->bhk", self.attention(token).softmax(dim=1), token).flatten(1)
        return torch.cat([pooled_set, self.query(embedding)], dim=1)


class Conditioned(nn.Module):
    """Stages 2 and 3: log probabilities of endpoints, given what is paid for."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pool, self.preference = Pool(width), nn.Linear(2, HIDDEN)
        self.inner, self.out = nn.Linear((HEADS + 2) * HIDDEN, 2 * HIDDEN), nn.Linear(2 * HIDDEN, IDENTITY)

    def forward(self, pooled_set: Tensor, identity: Tensor, preference: Tensor) -> Tensor:
        """Logits (B, E), of `pool`'s output, identities (E, IDENTITY) and preferences (B,)."""
        omega = torch.stack([torch.ones_like(preference), preference], dim=1)
        hidden = functional.gelu(self.inner(torch.cat([pooled_set, self.preference(omega)], dim=1)))
        return torch.as_tensor(self.out(hidden) @ identity.T)


class Value(nn.Module):
    """Expected quality and minus cost, (B, 2), whatever is preferred."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pool = Pool(width)
        self.inner, self.out = nn.Linear((HEADS + 1) * HIDDEN, HIDDEN), nn.Linear(HIDDEN, 2)

    def forward(self, embedding: Tensor, context: Tensor) -> Tensor:
        return torch.as_tensor(self.out(functional.gelu(self.inner(self.pool(embedding, context)))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Queries as the router sees them: embedding (Q, d), phat (Q, E), identity (E, IDENTITY), cost (E,)."""

    embedding: Tensor
    phat: Tensor
    identity: Tensor
    cost: Tensor

    def context(self, rows: Tensor) -> Tensor:
        """(B, E, IDENTITY + 2)."""
        phat = self.phat[rows]
        shared = torch.cat([self.identity, self.cost[:, None]], dim=1).expand(len(rows), -1, -1)
        return torch.cat([shared, phat[..., None]], dim=2)

    def logits(self, policy: Conditioned, rows: Tensor, preference: Tensor) -> Tensor:
        return torch.as_tensor(policy(policy.pool(self.embedding[rows], self.context(rows)), self.identity, preference))


def item_response(embedding: Tensor, quality: Tensor) -> ItemResponse:
    """Stage 1 on queries (Q, d) and their outcomes (Q, E)."""
    model = ItemResponse(embedding.shape[1], quality.shape[1])
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    cells = int(quality.isfinite().sum())
    for rows in _batches(len(embedding), IRT_BATCH, EPOCHS * len(embedding) // IRT_BATCH):
        _step(optimiser, model.loss(embedding[rows], quality[rows], cells))
    return model


def pretrain(asked: Asked, draw: Draw) -> Conditioned:
    """Stage 2."""
    policy = Conditioned(asked.embedding.shape[1])
    optimiser = torch.optim.Adam(policy.parameters(), lr=RATE)
    for rows in _batches(len(asked.embedding), BATCH, PRETRAIN_STEPS):
        preference = draw(len(rows))
        wanted = imitated(asked.phat[rows], asked.cost, preference)
        _step(optimiser, functional.cross_entropy(asked.logits(policy, rows, preference), wanted))
    return policy


def tune(policy: Conditioned, asked: Asked, quality: Tensor, draw: Draw) -> None:
    """Stage 3, in place, on the outcomes (Q, E) of the asked; an unknown outcome is never drawn."""
    value = Value(asked.embedding.shape[1])
    optimiser = torch.optim.Adam(policy.parameters(), lr=TUNING_RATE)
    of_value = torch.optim.Adam(value.parameters(), lr=RATE)
    for rows in _batches(len(asked.embedding), BATCH, ROLLOUTS):
        preference = draw(len(rows))
        lacking = quality[rows].isnan()
        with torch.no_grad():
            before = asked.logits(policy, rows, preference).masked_fill(lacking, -torch.inf).log_softmax(dim=1)
            drawn = before.exp().multinomial(1)
            reward = torch.cat([quality[rows].gather(1, drawn), -asked.cost[drawn]], dim=1)
            beyond = reward - value(asked.embedding[rows], asked.context(rows))
            advantage = beyond[:, 0] + preference * beyond[:, 1]
            advantage = (advantage - advantage.mean()) / advantage.std().clamp_min(1e-6)
        for _ in range(PASSES):
            now = asked.logits(policy, rows, preference).masked_fill(lacking, -torch.inf).log_softmax(dim=1)
            chances = (now.gather(1, drawn)[:, 0], before.gather(1, drawn)[:, 0])
            _step(optimiser, clipped_loss(*chances, advantage))
            predicted = value(asked.embedding[rows], asked.context(rows))
            _step(of_value, functional.mse_loss(predicted, reward))


@torch.no_grad()
def choose(policy: Conditioned, asked: Asked, preferences: Floats) -> Ints:
    """(D, Q): the likeliest endpoint at each preference."""
    rows = torch.arange(len(asked.embedding))
    pooled_set = policy.pool(asked.embedding, asked.context(rows))
    every = [policy(pooled_set, asked.identity, torch.full((len(rows),), float(w))).argmax(1) for w in preferences]
    return torch.stack(every).numpy()


def of_unseen(embedding: Tensor, quality: Tensor) -> Tensor:
    """Estimates phat of every query by a stage 1 that learned from the other folds."""
    fold = torch.randperm(len(embedding)) % FOLDS
    phat = torch.empty_like(quality)
    for held in range(FOLDS):
        model = item_response(embedding[fold != held], quality[fold != held])
        phat[fold == held] = model.estimate(embedding[fold == held])
    return phat


def _batches(count: int, size: int, steps: int) -> Iterator[Tensor]:
    """Rows drawn with replacement."""
    for _ in range(steps):
        yield torch.randint(count, (size,))


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
