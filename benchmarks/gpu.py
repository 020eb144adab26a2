"""Pairs per second end to end, and the share of that time in which the device computes.

    python benchmarks/gpu.py --device cuda --precision bf16 --workers 16 --batch-size 256
    python benchmarks/gpu.py --device cuda --precision bf16 --workers 16 --architecture ViT-L-14
    python benchmarks/gpu.py --pairs 256                    # the same on a CPU

Images are generated JPEGs of 500 × 375 pixels, or those of ``--images FOLDER``. Each pair has its own image and
caption. Models have random weights: trained ones are as fast, and nothing is downloaded. Every stage is measured
alone, and then all of them together, as ``i0tscore score`` runs them. The towers alone encode a batch that is already
on the device, as often as the pairs need. Their time divided by the time end to end is the share in which the device
computes.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from tabulate import tabulate

from i0tscore.encoders.images import decode
from i0tscore.encoders.loop import embed_captions, embed_images
from i0tscore.encoders.open_clip_models import quiet
from i0tscore.encoders.openclip import OpenClipEncoder, choose_device
from i0tscore.encoders.options import EncodeOptions

SIZE = (500, 375)
SENTENCE = "a small brown dog runs fast over the wide green field near two old trees"


def main() -> None:
    """Measure and print the table."""
    options = _parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    encoder = _encoder(options.architecture, options.precision, options.device)
    images = list(_images(options.images, options.pairs))
    captions = list(_captions(len(images)))
    settings = EncodeOptions(batch_size=options.batch_size, workers=options.workers)
    batch = torch.stack([encoder.preprocess(decode(image)) for image in images[: options.batch_size]]).to(
        encoder.device
    )
    tokens = encoder.tokenize(captions[: options.batch_size])
    encoder.encode_pixels(batch), encoder.encode_tokens(tokens)  # warm up
    n, share = len(images), len(images) / len(batch)
    seconds = {
        "image tower": share * _time(encoder.device, lambda: encoder.encode_pixels(batch), options.rounds),
        "text tower": share * _time(encoder.device, lambda: encoder.encode_tokens(tokens), options.rounds),
        "decoding and preprocessing, one thread": _time(
            encoder.device, lambda: [encoder.preprocess(decode(image)) for image in images], 1
        ),
        "images end to end": _time(encoder.device, lambda: embed_images(encoder, images, settings), options.rounds),
        "captions end to end": _time(
            encoder.device, lambda: embed_captions(encoder, captions, settings), options.rounds
        ),
    }
    towers = seconds["image tower"] + seconds["text tower"]
    total = seconds["images end to end"] + seconds["captions end to end"]
    rows = [[name, f"{n / own:,.0f}", f"{own / total:.0%}"] for name, own in seconds.items()]
    rows.append(["pairs end to end", f"{n / total:,.0f}", "100%"])
    print(
        f"{options.architecture}, random weights, {options.precision} on {_name(encoder.device)}, {n} pairs, batches "
        f"of {options.batch_size}, {options.workers} decoding threads, {os.cpu_count()} CPUs, "
        f"torch {torch.__version__}\n"
    )
    print(tabulate(rows, ["stage", "per second", "of the time end to end"], tablefmt="github", disable_numparse=True))
    print(f"\nThe device computes in {towers / total:.0%} of the time.")


def _time(device: torch.device, run: Callable[[], Any], rounds: int) -> float:
    """Return the seconds of the fastest of several runs, with all work of the device finished."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _encoder(architecture: str, precision: str, device: str) -> OpenClipEncoder:
    torch.manual_seed(0)
    with quiet():
        model = open_clip.create_model(architecture, load_weights=False).eval().requires_grad_(False)
    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    tokenizer = open_clip.get_tokenizer(architecture)
    return OpenClipEncoder(model, tokenizer, transform, name=architecture, precision=precision, device=device)


def _images(folder: Path | None, count: int) -> Iterator[bytes]:
    """Yield the contents of image files: of a folder, or generated with detail at every scale, as in photographs."""
    if folder is not None:
        yield from (path.read_bytes() for path in sorted(folder.glob("*.jpg"))[:count])
        return
    generator = np.random.default_rng(0)
    for _ in range(count):
        layers = [
            Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize(
                SIZE, Image.Resampling.BICUBIC
            )
            for side in (4, 16, 64)
        ]
        mixed = np.mean([np.asarray(layer, dtype=np.float32) for layer in layers], axis=0)
        file = io.BytesIO()
        Image.fromarray(mixed.astype(np.uint8)).save(file, "JPEG", quality=90)
        yield file.getvalue()


def _captions(count: int) -> Iterator[str]:
    generator = np.random.default_rng(0)
    for number in range(count):
        yield f"{' '.join(generator.permutation(SENTENCE.split())[:10])} {number}"


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--device", default="auto", type=lambda name: str(choose_device(name)))
    parser.add_argument("--pairs", type=int, default=4096)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="Decoding threads.")
    parser.add_argument("--threads", type=int, help="Threads of torch on a CPU.")
    parser.add_argument("--rounds", type=int, default=3, help="The fastest round counts.")
    parser.add_argument("--images", type=Path, help="Folder of JPEGs.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
