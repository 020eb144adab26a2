"""Train a small captioner on Flickr8k and watch I0TScore on validation images.

    python examples/captioner/train.py --loop plain --data DIR --steps 300
    python examples/captioner/train.py --loop lightning --data DIR --steps 300
    python examples/captioner/train.py --loop transformers --data DIR --steps 300
    python examples/captioner/train.py --loop plain --data DIR --steps 300 --reward 60

DIR contains flickr8k/ (``studies.flickr8k``). The captioner's input is the embeddings of the images by ``lite``, with
which its captions are also scored. The first run takes longest, since it computes them; --cache-dir saves them. All
loops start from the same weights and use the same batches.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import self_critical
from captioner import Captioner
from corpus import Corpus, read_flickr8k
from loops import BATCH, LOOPS, greedy
from tabulate import tabulate

from i0tscore import load_encoder
from i0tscore.encoders.base import Encoder
from i0tscore.integrations.validation import Validation


def main() -> None:
    """Train and print the table."""
    options = _parse()
    encoder = load_encoder("lite")
    corpus = read_flickr8k(
        options.data,
        encoder,
        train=options.images,
        validation=options.validation,
        cache_dir=options.cache_dir,
    )
    epochs = max(1, round(options.steps * BATCH / len(corpus.train)))
    model, log = LOOPS[options.loop](corpus, encoder, epochs=epochs, seed=options.seed)
    columns = ("loss", "I0TScore", "I0TScore_low", "I0TScore_high")
    rows = [[i + 1, *(epoch.get(name) for name in columns)] for i, epoch in enumerate(log)]
    print(tabulate(rows, ["epoch", *columns], floatfmt=".3f", tablefmt="github"))
    _show(model, corpus, encoder)
    if options.reward:
        rewards = self_critical.train(model, corpus, encoder, steps=options.reward, seed=options.seed)
        tenth = max(1, len(rewards) // 10)
        first, last = (sum(part) / tenth for part in (rewards[:tenth], rewards[-tenth:]))
        print(f"\n{len(rewards)} self-critical steps: mean reward from {first:.3f} to {last:.3f}")
        _show(model, corpus, encoder)


def _show(model: Captioner, corpus: Corpus, encoder: Encoder) -> None:
    """Print the score of the model's captions, its signature, and how varied they are."""
    validation = Validation(corpus.validation.features, greedy, model=encoder, metrics=("I0TScore", "CLIPScore"))
    validation(model)
    result = validation.result
    if result is None:
        return
    for metric in result.values():
        print(f"{metric.signature}\n  {metric.mean:.3f} {metric.interval[0]:.3f}–{metric.interval[1]:.3f}")
    different = len(set(result.captions))
    words = sum(len(caption.split()) for caption in result.captions) / result.n
    print(f"{different} different captions of {result.n}, {words:.1f} words each, e.g. {result.captions[0]!r}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", choices=LOOPS, default="plain", help="Training loop (default: plain).")
    parser.add_argument("--data", type=Path, default=os.environ.get("I0TSCORE_DATA"), help="Folder with flickr8k/.")
    parser.add_argument("--steps", type=int, default=300, help="Steps, rounded to whole epochs (default: 300).")
    parser.add_argument("--reward", type=int, default=0, help="Self-critical steps afterwards (default: 0).")
    parser.add_argument("--images", type=int, default=500, help="Training images (default: 500).")
    parser.add_argument("--validation", type=int, default=128, help="Validation images (default: 128).")
    parser.add_argument("--cache-dir", type=Path, help="Folder of the embedding cache.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.data is None:
        parser.error("Expected --data, the folder with flickr8k/. Alternatively, set I0TSCORE_DATA.")
    return options


if __name__ == "__main__":
    main()
