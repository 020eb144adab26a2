"""Self-critical training (Rennie et al. 2017) with I0TScore as the reward."""

from __future__ import annotations

import torch
from captioner import Captioner
from corpus import Corpus

from i0tscore.encoders.base import Encoder
from i0tscore.integrations.reward import I0TReward


def step(model: Captioner, optimizer: torch.optim.Optimizer, reward: I0TReward, features: torch.Tensor) -> float:
    """Take one step, and return the mean reward of the sampled captions.

    The advantage of a sampled caption is its reward minus that of the greedy caption, so that the difficulty of the
    image cancels out. The encoder gets both in one call.
    """
    model.train()
    with torch.no_grad():
        greedy = model.greedy(features)
    sampled, log_probabilities = model.sample(features)
    baseline, rewards = reward(features, list(zip(greedy, sampled, strict=True))).unbind(dim=1)
    optimizer.zero_grad()
    (-(rewards - baseline) * log_probabilities).mean().backward()
    optimizer.step()
    return float(rewards.mean())


def train(
    model: Captioner,
    corpus: Corpus,
    encoder: Encoder,
    *,
    steps: int,
    batch: int = 64,
    rate: float = 5e-4,
    seed: int = 0,
) -> list[float]:
    """Train on the images of the corpus without their captions, and return the mean reward of each step."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0)
    reward = I0TReward(encoder)
    features = corpus.train.features
    batches = [torch.randint(len(features), (batch,), generator=generator) for _ in range(steps)]
    return [step(model, optimizer, reward, features[rows]) for rows in batches]
