"""Encoders that are known from an earlier run, so that cached embeddings are read without loading the model."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0tscore.encoders.base import Encoder, Fingerprint, Tokens
from i0tscore.encoders.cache import FORMAT, EmbeddingCache
from i0tscore.encoders.options import EncodeOptions
from i0tscore.files import default_cache_dir, replace_file

if TYPE_CHECKING:
    import torch
    from PIL import Image

_LIBRARIES = ("i0tscore", "open_clip_torch", "timm", "torch", "torchvision", "transformers", "tokenizers", "ftfy")
_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME")  # where the hub's cache is


@dataclass(frozen=True)
class EncoderRecord:
    """Properties of an encoder that a run without new images and captions needs.

    Attributes:
        fingerprint: Fingerprint of the encoder.
        dimension: Length of an embedding.
        context_length: Maximum number of tokens of a text.
        files: Path, size, and modification time in ns of each file that the encoder was loaded from.
    """

    fingerprint: Fingerprint
    dimension: int
    context_length: int
    files: list[list[Any]]

    @property
    def tokenizer(self) -> str:
        """Identifier of the tokenizer, which the fingerprint does not cover."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:32]


class RememberedEncoder:
    """An encoder with a cache of embeddings and tokens, which loads the model only for what is not cached.

    Args:
        options: Name of the model, how to load it, and the folder of the cache.
        load: Loads the encoder, or returns the loaded one.

    Attributes:
        fingerprint: Fingerprint of the encoder.
        dimension: Length of an embedding.
        context_length: Maximum number of tokens of a text.
        cache: The cache.
    """

    def __init__(self, options: EncodeOptions, load: Callable[[], Encoder]) -> None:
        folder = Path(options.cache_dir or default_cache_dir())
        if isinstance(options.model, str):
            path = folder / "models" / f"{_digest(options)}.json"
            record = _read(path) or _remember(path, load())
        else:  # it has no name by which it could be recognized
            record = _describe(load())
        self.fingerprint = record.fingerprint
        self.dimension = record.dimension
        self.context_length = record.context_length
        self.cache = EmbeddingCache(self, folder)
        self._load = load
        self._tokenizer = record.tokenizer if record.files else None

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Convert an RGB image to the input of the image tower."""
        return self._load().preprocess(image)

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode preprocessed images."""
        return self._load().encode_pixels(pixels)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenize texts, those of earlier runs from the cache."""
        if self._tokenizer is None:
            return self._load().tokenize(texts)
        found = self.cache.get_tokens(self._tokenizer, texts)
        if missing := [text for text in dict.fromkeys(texts) if text not in found]:
            added = dict(zip(missing, self._load().tokenize(missing), strict=True))
            self.cache.put_tokens(self._tokenizer, added)
            found |= added
        return [found[text] for text in texts]

    def encode_tokens(self, tokens: Sequence[Tokens]) -> torch.Tensor:
        """Encode tokenized texts."""
        return self._load().encode_tokens(tokens)


def _digest(options: EncodeOptions) -> str:
    """Return a hash of everything that determines which encoder is loaded, except the content of files."""
    model = str(options.model)
    if model.startswith("local-dir:"):
        model = str(Path(model.removeprefix("local-dir:")).absolute())
    weights = options.weights and str(Path(options.weights).absolute())
    environment = [os.environ.get(name) for name in _VARIABLES]
    how = [FORMAT, model, weights, options.precision, options.device, environment, [_version(p) for p in _LIBRARIES]]
    return hashlib.sha256(json.dumps(how).encode()).hexdigest()[:32]


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None


def _read(path: Path) -> EncoderRecord | None:
    """Read the record of an encoder; None if there is none, it is damaged, or a file has changed since."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        data = json.loads(path.read_bytes())
        record = EncoderRecord(**{**data, "fingerprint": Fingerprint(**data["fingerprint"])})
        if record.files and record.files == [_state(Path(file)) for file, *_ in record.files]:
            return record
    return None


def _describe(encoder: Encoder) -> EncoderRecord:
    """Return the record of an encoder, without files if it cannot be recognized by them."""
    files = []
    with suppress(OSError):
        files = [_state(Path(file)) for file in getattr(encoder, "files", ())]
    return EncoderRecord(encoder.fingerprint, encoder.dimension, encoder.context_length, files)


def _remember(path: Path, encoder: Encoder) -> EncoderRecord:
    """Return the record of an encoder, and write it if the encoder can be recognized without loading it."""
    record = _describe(encoder)
    if record.files:
        with suppress(OSError):  # a record only saves time, as the cache does, which warns
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, json.dumps(asdict(record)).encode())
    return record


def _state(file: Path) -> list[Any]:
    found = file.stat()
    return [str(file), found.st_size, found.st_mtime_ns]
