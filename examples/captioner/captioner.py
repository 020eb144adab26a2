"""A small captioner: a vocabulary of words and a GRU that starts from an image's embedding."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

PAD, BEGIN, END, UNKNOWN = range(4)
LENGTH = 18
"""Maximum number of words of a caption."""


class Vocabulary:
    """Numbers of the words that occur often enough in the training captions.

    Args:
        captions: Training captions.
        least: Minimum number of occurrences of a word.
    """

    def __init__(self, captions: Iterable[str], least: int = 3) -> None:
        counts = Counter(word for caption in captions for word in _words(caption))
        self.words = ["", "", "", "", *(word for word, count in counts.most_common() if count >= least)]
        self._numbers = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, caption: str) -> torch.Tensor:
        """Return numbers (LENGTH + 1,), int64: the words, the end, padding."""
        numbers = [self._numbers.get(word, UNKNOWN) for word in _words(caption)[:LENGTH]]
        return torch.tensor([*numbers, END, *[PAD] * (LENGTH - len(numbers))])

    def decode(self, rows: torch.Tensor) -> list[str]:
        """Return the captions of numbers (n, length), each up to its end."""
        captions = []
        for numbers in rows.tolist():
            stop = numbers.index(END) if END in numbers else len(numbers)
            captions.append(" ".join(self.words[number] for number in numbers[:stop]))
        return captions


class Captioner(nn.Module):
    """Writes captions from image features.

    Args:
        vocabulary: Words to write.
        dimension: Length of the features of an image.
        width: Width of the GRU's state and of word embeddings.
    """

    def __init__(self, vocabulary: Vocabulary, dimension: int, width: int = 256) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.begin = nn.Linear(dimension, width)
        self.embedding = nn.Embedding(len(vocabulary), width, padding_idx=PAD)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.words = nn.Linear(width, len(vocabulary))

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the cross-entropy of captions.

        Args:
            features: Features of the images (n, d).
            labels: Word numbers of the captions (n, length) from ``Vocabulary.encode``.

        Returns:
            A dictionary with the scalar ``loss``, as the transformers Trainer expects.
        """
        given = functional.pad(labels[:, :-1], (1, 0), value=BEGIN)
        states, _ = self.gru(self.embedding(given), self._start(features))
        logits = self.words(states)
        return {"loss": functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=PAD)}

    def greedy(self, features: torch.Tensor) -> list[str]:
        """Return captions of images (n, d) with the most likely word at each position."""
        return self.vocabulary.decode(self._write(features, sample=False)[0])

    def sample(self, features: torch.Tensor) -> tuple[list[str], torch.Tensor]:
        """Sample captions of images (n, d), and return them with their log-probabilities (n,)."""
        numbers, log_probabilities = self._write(features, sample=True)
        return self.vocabulary.decode(numbers), log_probabilities

    def _write(self, features: torch.Tensor, *, sample: bool) -> tuple[torch.Tensor, torch.Tensor]:
        state = self._start(features)
        word = torch.full((len(features),), BEGIN, device=features.device)
        written: list[torch.Tensor] = []
        total: Any = torch.zeros(len(features), device=features.device)
        going = torch.ones(len(features), dtype=torch.bool, device=features.device)
        for position in range(LENGTH):
            states, state = self.gru(self.embedding(word)[:, None], state)
            scores = self.words(states[:, 0])
            excluded = [PAD, BEGIN, UNKNOWN] if position else [PAD, BEGIN, UNKNOWN, END]
            scores[:, excluded] = -torch.inf
            logs = scores.log_softmax(dim=-1)
            word = torch.multinomial(logs.exp(), 1)[:, 0] if sample else logs.argmax(dim=-1)
            total = total + logs.gather(1, word[:, None])[:, 0] * going
            written.append(word)
            going = going & (word != END)
        return torch.stack(written, dim=1), total

    def _start(self, features: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.begin(features))[None]


def _words(caption: str) -> list[str]:
    return re.findall(r"[a-z]+", caption.lower())
