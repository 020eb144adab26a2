"""Image–caption pairs per second of i0tscore, of torchmetrics, and of the script by the authors of CLIPScore.

    make peers                                              # installs what the peers need into build/peers, and runs:
    PYTHONPATH=build/peers python benchmarks/peers.py --clipscore build/clipscore

Each method runs a ViT-B/32 in fp32 with its own random weights: trained models are equally fast, and only speeds are
compared. The last row is the image tower of i0tscore alone, on pixels in memory: the bound for distinct images. All
methods take turns in every round, and ratios are those of one round. On a machine with other work, compare the ratios
of CPU time, which include the worker processes of the script.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from importlib.metadata import version
from pathlib import Path

import numpy as np
import throughput
import torch
from PIL import Image
from tabulate import tabulate
from throughput import BATCH, Pairs

OURS = "i0tscore"
Method = Callable[[], object]


def main() -> None:
    """Measure and print the table."""
    parser = throughput.parser(__doc__)
    parser.add_argument("--clipscore", type=Path, required=True, help="A clone of github.com/jmhessel/clipscore.")
    options = throughput.parse(parser)
    pairs = [(path, captions[0]) for path, captions in throughput.images(options)]
    methods = {
        OURS: ours(pairs),
        f"torchmetrics {version('torchmetrics')}, transformers {version('transformers')}": torchmetrics(pairs),
        "CLIPScore's script": clipscore(pairs, options.clipscore),
        "image tower of i0tscore": image_tower(pairs),
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for turn in range(options.rounds + 1):
        for name, method in methods.items():
            start, busy = time.perf_counter(), processor_seconds()
            method()
            if turn:  # the first round warms up
                spent[name].append((time.perf_counter() - start, processor_seconds() - busy))
    rows = []
    for name, rounds in spent.items():
        row: list[object] = [name, len(pairs) / min(seconds for seconds, _ in rounds)]
        for kind in (0, 1):
            ratios = [theirs[kind] / own[kind] for theirs, own in zip(rounds, spent[OURS], strict=True)]
            row.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        rows.append(row)
    print(f"{len(pairs)} distinct pairs, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"median (range) of {options.rounds} rounds, relative to {OURS}\n")
    print(tabulate(rows, ["method", "pairs/s (fastest)", "time", "CPU time"], floatfmt=".1f", tablefmt="github"))


def processor_seconds() -> float:
    """Return the CPU time of this process and of the worker processes that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def ours(pairs: Pairs) -> Method:
    """The encoding of this package, without its cache."""
    encoder = throughput.make_encoder("fp32")
    return lambda: throughput.i0tscore(encoder, pairs)


def image_tower(pairs: Pairs) -> Method:
    """The image tower of this package on images that are already decoded."""
    encoder = throughput.make_encoder("fp32")
    pixels = torch.stack([encoder.preprocess(Image.open(path).convert("RGB")) for path, _ in pairs])
    return lambda: [encoder.encode_pixels(batch) for batch in pixels.split(BATCH)]


def torchmetrics(pairs: Pairs) -> Method:
    """torchmetrics.multimodal.CLIPScore, updated in batches."""
    from torchmetrics.multimodal import CLIPScore
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    with tempfile.TemporaryDirectory() as folder:
        _write_vocabulary(Path(folder))
        tokenizer = CLIPTokenizer(f"{folder}/vocab.json", f"{folder}/merges.txt", model_max_length=77)
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "patch_size": 32}
    parts = CLIPModel(CLIPConfig(vision_config=vision)).eval(), CLIPProcessor(CLIPImageProcessor(), tokenizer)
    metric = CLIPScore(lambda: parts)

    def run() -> None:
        for start in range(0, len(pairs), BATCH):
            batch = pairs[start : start + BATCH]
            images = [torch.from_numpy(np.array(Image.open(p).convert("RGB"))).permute(2, 0, 1) for p, _ in batch]
            metric.update(images, [caption for _, caption in batch])
        metric.compute()

    return run


def clipscore(pairs: Pairs, folder: Path) -> Method:
    """The script's own function, with its batches and workers."""
    import clip

    sys.path.append(str(folder))
    script = importlib.import_module("clipscore")
    torch.manual_seed(0)
    model = clip.model.CLIP(512, 224, 12, 768, 32, 77, 49408, 512, 8, 12).eval()
    paths, captions = [str(path) for path, _ in pairs], [caption for _, caption in pairs]

    def run() -> None:
        with Path(os.devnull).open("w") as quiet, redirect_stderr(quiet):  # progress bars
            script.get_clip_score(model, paths, captions, "cpu")

    return run


def _write_vocabulary(folder: Path) -> None:
    """CLIP's vocabulary from open_clip's copy, in the files that transformers reads."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(word, word): number for word, number in tokenizer.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in tokenizer.bpe_ranks)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
