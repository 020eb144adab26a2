"""Image–caption pairs per second, compared with a plain implementation that encodes every pair.

    python benchmarks/throughput.py                      # 200 images of Flickr8k (I0TSCORE_DATA)
    python benchmarks/throughput.py --images FOLDER      # any images, with synthetic captions

The model is open_clip's ViT-B-32 with random weights: trained models are as fast, and nothing is downloaded. The plain
implementation is that of a simple script: it decodes and encodes the image of each pair, pads each caption to 77
tokens, and uses open_clip's own attention. All methods take turns in every round, and the fastest round of each counts,
so that other work on the machine hardly affects the ratios.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from tabulate import tabulate

from i0tscore.encoders.loop import embed_captions, embed_images
from i0tscore.encoders.open_clip_models import quiet
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.encoders.options import EncodeOptions

ARCHITECTURE = "ViT-B-32"
BATCH = 32
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}

Pairs: TypeAlias = list[tuple[Path, str]]
Cosines: TypeAlias = npt.NDArray[np.float64]


@dataclass
class Measured:
    """Measurement of one method on one set of pairs."""

    seconds: float
    cosines: Cosines


def main() -> None:
    """Measure and print the table."""
    options = parse(parser(__doc__))
    captioned = images(options)
    one = [(path, captions[0]) for path, captions in captioned]
    five = [(path, caption) for path, captions in captioned for caption in captions]
    stock, tokenizer, transform = _stock_model()
    ours = {precision: make_encoder(precision) for precision in ("fp32", "bf16")}
    rows: list[list[object]] = []
    for title, pairs, targets in (
        ("distinct pairs", one, (1.6, 4.0)),
        ("five captions per image", five, (5.0, None)),
    ):
        methods: dict[str, Callable[[], Cosines]] = {
            "plain fp32": lambda pairs=pairs: plain(stock, tokenizer, transform, pairs),
            "i0tscore fp32": lambda pairs=pairs: i0tscore(ours["fp32"], pairs),
            "i0tscore bf16": lambda pairs=pairs: i0tscore(ours["bf16"], pairs),
        }
        measured = _take_turns(methods, options.rounds)
        rows += _rows(title, len(pairs), measured, targets)
    threads = f"{torch.get_num_threads()} threads of {platform.machine()}, torch {torch.__version__}"
    print(f"{ARCHITECTURE}, random weights, {len(captioned)} images, {threads}")
    print(f"fastest of {options.rounds} rounds\n")
    headers = ["pairs", "method", "pairs/s", "times plain", "target", "largest change of a cosine"]
    print(tabulate(rows, headers, floatfmt=("", "", ".1f", ".2f", ".1f", ".1e"), tablefmt="github"))
    drift = max(float(str(row[5])) for row in rows if row[1] == "i0tscore fp32")
    if drift > 1e-5:
        raise SystemExit(f"Expected fp32 cosines within 1e-5 of the plain implementation, got {drift:.1e}.")


def plain(model: Any, tokenizer: Any, transform: Any, pairs: Pairs) -> Cosines:
    """Encode every pair: image and caption, 77 tokens, stock attention."""
    cosines = []
    with torch.inference_mode():
        for start in range(0, len(pairs), BATCH):
            batch = pairs[start : start + BATCH]
            pixels = torch.stack([transform(Image.open(path).convert("RGB")) for path, _ in batch])
            x = model.encode_image(pixels, normalize=True)
            y = model.encode_text(tokenizer([caption for _, caption in batch]), normalize=True)
            cosines.append((x.double() * y.double()).sum(dim=-1))
    return np.asarray(torch.cat(cosines).numpy())


def i0tscore(encoder: OpenClipEncoder, pairs: Pairs) -> Cosines:
    """Encode each distinct image and caption once with the package, without its cache."""
    found = embed_images(encoder, [path for path, _ in pairs], EncodeOptions(batch_size=BATCH))
    captions = embed_captions(encoder, [caption for _, caption in pairs])
    x = found.vectors[found.index].astype(np.float64)
    y = captions.vectors[captions.index].astype(np.float64)
    return np.asarray((x * y).sum(axis=1))


def _take_turns(methods: dict[str, Callable[[], Cosines]], rounds: int) -> dict[str, Measured]:
    best: dict[str, Measured] = {}
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.perf_counter()
            cosines = method()
            seconds = time.perf_counter() - start
            if name not in best or seconds < best[name].seconds:
                best[name] = Measured(seconds, cosines)
    return best


def _rows(title: str, n: int, measured: dict[str, Measured], targets: tuple[float, float | None]) -> list[list[object]]:
    reference = measured["plain fp32"]
    target = dict(zip(("i0tscore fp32", "i0tscore bf16"), targets, strict=True))
    return [
        [
            title,
            name,
            f"{n / one.seconds:.1f}",
            reference.seconds / one.seconds,
            target.get(name),
            float(np.abs(one.cosines - reference.cosines).max()),
        ]
        for name, one in measured.items()
    ]


def _stock_model() -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    with quiet():
        model = open_clip.create_model(ARCHITECTURE, load_weights=False).eval().requires_grad_(False)
    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    return model, open_clip.get_tokenizer(ARCHITECTURE), transform


def make_encoder(precision: str) -> OpenClipEncoder:
    """Return the model as an encoder of the package."""
    return OpenClipEncoder(*_stock_model(), name=ARCHITECTURE, precision=precision)


def images(options: argparse.Namespace) -> list[tuple[Path, Sequence[str]]]:
    """Return images with five captions each: those of Flickr8k, or synthetic ones for a folder of images."""
    if options.images:
        paths = sorted(path for path in options.images.iterdir() if path.suffix.lower() in SUFFIXES)
        sentence = "a small brown dog runs fast over the wide green field near two old trees"
        words = sentence.split()
        synthetic = [" ".join(words[: 6 + 2 * k]) for k in range(5)]
        return [(path, [f"{text}, number {i}" for text in synthetic]) for i, path in enumerate(paths[: options.n])]
    folder = options.data / "flickr8k"
    captions: dict[str, list[str]] = {}
    for line in (folder / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        name, text = line.split("\t")
        captions.setdefault(name.rpartition("#")[0], []).append(text)
    # Originals first: people score images of about 500 × 375, and decoding them is part of the work.
    found = {path.name: path for kind in ("images_224", "images_original") for path in (folder / kind).glob("*.jpg")}
    tests = (folder / "Flickr_8k.testImages.txt").read_text().split()
    ordered = sorted((name for name in tests if name in found), key=lambda name: "224" in found[name].parent.name)
    return [(found[name], captions[name]) for name in ordered[: options.n]]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that choose images, threads, and rounds."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    data = Path(os.environ.get("I0TSCORE_DATA", shared))
    made.add_argument("--data", type=Path, default=data, help="Folder with flickr8k/ (I0TSCORE_DATA).")
    made.add_argument("--images", type=Path, help="Folder of images to use instead.")
    made.add_argument("--n", type=int, default=200, help="Number of images (default: 200).")
    made.add_argument("--rounds", type=int, default=3, help="Number of rounds (default: 3).")
    made.add_argument("--threads", type=int, help="Number of torch threads (default: chosen by torch).")
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the options of ``parser``, and set the number of threads."""
    options = made.parse_args()
    if not options.images and not (options.data / "flickr8k").is_dir():
        made.error(f"Expected flickr8k in {options.data}. Set I0TSCORE_DATA, or pass --images FOLDER.")
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


if __name__ == "__main__":
    warnings.simplefilter("ignore", ResourceWarning)
    main()
