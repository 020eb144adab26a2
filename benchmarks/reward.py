"""Time that I0TScore as a reward adds to a training step, compared with the text encoder alone.

    python benchmarks/reward.py                          # lite, on the CPU
    python benchmarks/reward.py --model ViT-B-32-quickgelu/openai --device cuda

A step of self-critical training generates a greedy and a sampled caption for each image of a batch, and learns from
them. It is timed without the reward (replaced by a constant) and with it, and the encoder is timed alone on the same
captions, each distinct one once. The reward should add no more than the time of the encoder. All three take turns in
every round on the same images, and medians are reported, so that other work on the machine hardly affects the ratios.
Images are random unit vectors, since speed does not depend on their content.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch.nn import functional

from i0tscore import load_encoder
from i0tscore.gap import Moments, Statistics
from i0tscore.integrations.reward import I0TReward
from i0tscore.metrics.metric import PREFIX

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "captioner"))
import self_critical
from captioner import Captioner, Vocabulary

WORDS = "a the man woman dog child runs sits in on with red blue shirt grass water street ball beach snow"


class Recorder:
    """Replaces the reward by a constant, and keeps the captions."""

    captions: Sequence[Sequence[str]] = ()

    def __call__(self, images: torch.Tensor, captions: Sequence[Sequence[str]]) -> torch.Tensor:
        """Return ones (n, k)."""
        self.captions = captions
        return images.new_ones(len(captions), len(captions[0]))


def main() -> None:
    """Measure and print the table."""
    options = _parse()
    encoder: Any = load_encoder(options.model, device=options.device)
    reward = I0TReward(encoder, _statistics(encoder), batch_size=options.encode)
    torch.manual_seed(0)
    model = Captioner(Vocabulary([WORDS], least=1), encoder.dimension, options.width).to(options.device)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)  # the captions do not change
    images = functional.normalize(torch.randn(options.batch, encoder.dimension), dim=1).to(options.device)
    recorder = Recorder()

    def encode() -> None:
        distinct = dict.fromkeys(caption for row in recorder.captions for caption in row)
        tokens = encoder.tokenize([PREFIX + caption for caption in distinct])
        tokens.sort(key=lambda one: len(one.ids), reverse=True)
        for start in range(0, len(tokens), options.encode):
            encoder.encode_tokens(tokens[start : start + options.encode])

    # The same seed in every round: captions with and without the reward, and those encoded alone, are the same.
    methods: dict[str, Callable[[], object]] = {
        "step without reward": lambda: self_critical.step(model, optimizer, recorder, images),
        "text encoder alone": encode,
        "step with reward": lambda: self_critical.step(model, optimizer, reward, images),
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(options.rounds + 1):
        for name, method in methods.items():
            torch.manual_seed(turn)
            spent = _time(method, options.device)
            if turn:  # the first warms up
                seconds[name].append(spent)
    without, alone, together = seconds.values()
    added = [(c - a) / b for a, b, c in zip(without, alone, together, strict=True)]
    sums = [c / (a + b) for a, b, c in zip(without, alone, together, strict=True)]
    captions = len({caption for row in recorder.captions for caption in row})
    print(f"{options.model} on {options.device}, {options.batch} images, {captions} distinct captions")
    print(f"Medians of {options.rounds} rounds\n")
    base = statistics.median(without)
    rows = [[name, statistics.median(times) / base] for name, times in seconds.items()]
    print(tabulate(rows, ["step", "relative to the step without"], floatfmt=".2f", tablefmt="github"))
    print(f"\n(step with reward − step without) / text encoder alone: {statistics.median(added):.2f}")
    print(f"step with reward / (step without + text encoder alone): {statistics.median(sums):.2f}")


def _time(method: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    method()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _statistics(encoder: Any) -> Statistics:
    """Return statistics of random vectors, which do not affect the time."""
    vectors = functional.normalize(torch.randn(64, encoder.dimension), dim=1).numpy()
    moments = Moments.of(vectors)
    known = encoder.fingerprint
    return Statistics("random", known.name, known.space, PREFIX, moments, moments)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lite", help="Encoder (default: lite).")
    parser.add_argument("--device", default="cpu", help="Torch device (default: cpu).")
    parser.add_argument("--batch", type=int, default=64, help="Images per step (default: 64).")
    parser.add_argument("--encode", type=int, default=256, help="Captions per encoder batch (default: 256).")
    parser.add_argument("--width", type=int, default=256, help="Width of the captioner (default: 256).")
    parser.add_argument("--rounds", type=int, default=9, help="Number of rounds, whose median is reported.")
    return parser.parse_args()


if __name__ == "__main__":
    warnings.simplefilter("ignore", ResourceWarning)
    main()
