"""Speed of torchmetrics and of CLIPScore's own script on the same pairs, if they can run.

Each uses a ViT-B/32 with its own random weights, so only the speed can be compared.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

Pairs = list[tuple[Path, str]]


def measure(pairs: Pairs, plain_per_second: float) -> Iterator[tuple[str, tuple[object, object]]]:
    """Yield the name of each peer with its pairs per second and their ratio to the plain speed, or with an error."""
    peers: list[tuple[str, str, Callable[[Pairs], Callable[[], None]]]] = [
        ("torchmetrics", "torchmetrics", torchmetrics),
        ("CLIPScore script (clip)", "clip", clipscore),
    ]
    for name, package, prepare in peers:
        if importlib.util.find_spec(package) is None:
            yield name, ("not installed", None)
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run = prepare(pairs)
                start = time.perf_counter()
                run()
            speed = len(pairs) / (time.perf_counter() - start)
            yield name, (f"{speed:.1f}", speed / plain_per_second)
        except Exception as error:
            # Peers that do not run with current packages are part of the result.
            reason = str(error).splitlines()[0] if str(error) else ""
            yield name, (f"cannot run: {type(error).__name__} {reason}"[:80], None)


def torchmetrics(pairs: Pairs) -> Callable[[], None]:
    """torchmetrics.multimodal.CLIPScore, updated in batches of 32."""
    from torchmetrics.multimodal import CLIPScore
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    with tempfile.TemporaryDirectory() as folder:
        _write_vocabulary(Path(folder))
        tokenizer = CLIPTokenizer(f"{folder}/vocab.json", f"{folder}/merges.txt", model_max_length=77)
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "patch_size": 32}
    parts = CLIPModel(CLIPConfig(vision_config=vision)).eval(), CLIPProcessor(CLIPImageProcessor(), tokenizer)
    metric = CLIPScore(lambda: parts)

    def run() -> None:
        for start in range(0, len(pairs), 32):
            batch = pairs[start : start + 32]
            images = [torch.from_numpy(np.array(Image.open(p).convert("RGB"))).permute(2, 0, 1) for p, _ in batch]
            metric.update(images, [caption for _, caption in batch])
        metric.compute()

    return run


def clipscore(pairs: Pairs) -> Callable[[], None]:
    """CLIPScore's script: OpenAI's package, captions in batches of 256, images of 64."""
    import clip

    torch.manual_seed(0)
    model = clip.model.CLIP(512, 224, 12, 768, 32, 77, 49408, 512, 8, 12).eval()
    transform = clip.clip._transform(224)

    def run() -> None:
        with torch.no_grad():
            for start in range(0, len(pairs), 256):
                texts = ["A photo depicts " + caption for _, caption in pairs[start : start + 256]]
                model.encode_text(clip.tokenize(texts, truncate=True))
            for start in range(0, len(pairs), 64):
                batch = [transform(Image.open(path)) for path, _ in pairs[start : start + 64]]
                model.encode_image(torch.stack(batch))

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
