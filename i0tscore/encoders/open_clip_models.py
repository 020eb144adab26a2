"""Loading open_clip models: resolve the name, find the weights, build the model, and load the weights safely."""

from __future__ import annotations

import logging
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from i0tscore.encoders.openclip import OpenClipEncoder, uses_quick_gelu
from i0tscore.encoders.options import CHECKPOINTS
from i0tscore.errors import (
    ModelError,
    UsageError,
    WeightsRefusedError,
    WeightsUnavailableError,
    did_you_mean,
    first_line,
)

Result = TypeVar("Result")

_QUICKGELU = "-quickgelu"
_TIMEOUT = 5.0  # seconds to wait for the first answer of the hub
_UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    OSError,
    RuntimeError,
    EOFError,
    KeyError,
    ValueError,
    AttributeError,
)
_LISTED = 3  # parameters that an error message lists
_OPENAI_KEYS = {"input_resolution", "context_length", "vocab_size"}  # in OpenAI's checkpoints, not parameters
_OPENAI_NAME = re.compile(
    r"(?:hf-hub:)?(?:(?:openai|sentence-transformers)/)?(?:clip-)?"
    r"vit-(b|l)(?:ase|arge)?[-/](?:patch)?(\d+)(?:[-@](336)(?:px)?)?",
    re.IGNORECASE,
)
"""Names of OpenAI's models in their own package, in transformers, and in sentence-transformers."""
_WRAPPED = ("state_dict", "model_state_dict", "model")  # keys of training checkpoints that hold the state dict
_WRAPPERS = re.compile(r"^(?:(?:module|model)\.)+")  # added to names by DistributedDataParallel and Lightning


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that open_clip can build.

    Attributes:
        name: Display name, e.g. ``ViT-B-32-quickgelu/openai``.
        architecture: Name of the architecture in open_clip, or a ``hf-hub:`` or ``local-dir:`` name.
        pretrained: open_clip's entry for the tag: location of the weights, preprocessing; empty without a tag.
        quick_gelu: Whether QuickGELU must be requested because the architecture does not have it by itself.
    """

    name: str
    architecture: str
    pretrained: dict[str, Any] = field(default_factory=dict)
    quick_gelu: bool = False

    @property
    def preprocess(self) -> dict[str, Any]:
        """Preprocessing settings in which the tag differs from its architecture."""
        settings = ("mean", "std", "interpolation", "resize_mode", "fill_color")
        return {key: self.pretrained[key] for key in settings if self.pretrained.get(key) is not None}


def load_open_clip(
    model: str,
    *,
    weights: str | PathLike[str] | None = None,
    precision: str = "fp32",
    device: str = "cpu",
    offline: bool = False,
) -> OpenClipEncoder:
    """Load an open_clip model as an encoder; see ``load_encoder`` for the arguments and errors."""
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    file = None if weights is None else Path(weights)
    resolved = resolve_model_name(model, file)
    path = _find_weights(resolved, offline=offline) if file is None else file
    state = _read_state_dict(path)

    def build() -> tuple[Any, Any]:
        settings = {"force_quick_gelu": resolved.quick_gelu, "force_preprocess_cfg": resolved.preprocess}
        built = open_clip.create_model(resolved.architecture, load_weights=False, pretrained_text=False, **settings)
        return built, open_clip.get_tokenizer(resolved.architecture)

    built, tokenizer = from_hub(build, resolved.name, offline=offline)
    ambiguous = False
    if file is not None and not resolved.pretrained:
        other = _other_activation(resolved.architecture)
        ambiguous = other in open_clip.list_models()
        if ambiguous:
            warnings.warn(
                f"{file} does not say which activation its weights were trained with. Assuming "
                f"{resolved.architecture}. If they were trained with {other}, the scores are wrong. To be sure, add a "
                f"tag: --model {resolved.architecture}/TAG",
                UserWarning,
                stacklevel=3,
            )
    _load_weights(built, state, path, resize=file is None)
    transform = image_transform_v2(PreprocessCfg(**built.visual.preprocess_cfg), is_train=False)
    files = () if ambiguous else _known_files(resolved, path, tokenizer)
    return OpenClipEncoder(
        built, tokenizer, transform, name=resolved.name, precision=precision, device=device, files=files
    )


def _known_files(model: ResolvedModel, weights: Path, tokenizer: Any) -> list[Path]:
    """Return the files that a model was loaded from; none if those of its tokenizer are in an unknown place."""
    from open_clip.tokenizer import HFTokenizer

    folders = [weights.parent] if model.architecture.startswith(("hf-hub:", "local-dir:")) else []
    if isinstance(tokenizer, HFTokenizer):  # the other one is part of open_clip
        folder = Path(tokenizer.tokenizer.name_or_path)
        if not folder.is_dir():
            return []
        folders.append(folder)
    settings = [file for folder in folders for file in folder.rglob("*") if file.suffix in (".json", ".txt", ".model")]
    return [weights, *sorted(set(settings))]


def resolve_model_name(model: str, weights: Path | None = None) -> ResolvedModel:
    """Resolve the name of a model, with the activation that its weights were trained with.

    open_clip builds ``ViT-B-32`` with GELU regardless of the weights, which is wrong for OpenAI's. Here
    ``ViT-B-32/openai`` becomes ``ViT-B-32-quickgelu/openai``, and an architecture that contradicts its tag is an error.

    Args:
        model: ``architecture/tag``, ``architecture`` alone with a weights file, ``hf-hub:…``, or ``local-dir:…``.
        weights: A weights file, which makes the tag optional.

    Raises:
        UsageError: The architecture or tag does not exist, or they contradict each other.

    Examples:
        >>> resolve_model_name("ViT-B-32/openai").name
        'ViT-B-32-quickgelu/openai'
    """
    import open_clip

    # Signatures allow only these characters.
    suffix = "" if weights is None else "/" + re.sub(r"[^\w.+-]", "_", weights.name)
    known = open_clip.list_models()
    if openai := _OPENAI_NAME.fullmatch(model) if model not in known else None:
        size, patch, pixels = openai[1].upper(), openai[2], openai[3]
        name = f"ViT-{size}-{patch}{f'-{pixels}' if pixels else ''}{_QUICKGELU}"
        theirs = f"ViT-{size}/{patch}{f'@{pixels}px' if pixels else ''}"
        if name in known:
            raise UsageError(f"Unknown model {model!r}. OpenAI's {theirs} is {name}/openai here.")
    if model.startswith(("hf-hub:", "local-dir:")):
        return ResolvedModel(model + suffix, model)
    architecture, _, tag = model.partition("/")
    if architecture not in known:
        raise UsageError(f"Unknown model {model!r}.{_suggest_model(model, architecture, known)}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not tag and weights is not None:
        return ResolvedModel(architecture + suffix, architecture)
    if not tag:
        example = f"Name a tag, as in {architecture}/{tags[0]}, or" if tags else "There are no tags, so"
        raise UsageError(
            f"{architecture} does not say which weights to load. {example} pass a file with --weights. "
            f"Tags: {', '.join(tags) or 'none'}."
        )
    tag = tag.lower().replace("-", "_")
    if tag not in tags:
        plain = _other_activation(architecture)
        if architecture.endswith(_QUICKGELU) and tag in open_clip.list_pretrained_tags_by_model(plain):
            raise UsageError(
                f"The weights of {architecture}/{tag} were trained with plain GELU and give wrong scores with "
                f"QuickGELU. Try {plain}/{tag}."
            )
        listed = f"Tags: {', '.join(tags)}." if tags else "It has none: pass a file with --weights."
        raise UsageError(f"{architecture} has no tag {tag!r}.{did_you_mean(tag, tags, n=3)} {listed}")
    pretrained = open_clip.get_pretrained_cfg(architecture, tag)
    built_in = open_clip.get_model_config(architecture).get("quick_gelu")
    needs_quick = bool(pretrained.get("quick_gelu")) and not built_in
    if needs_quick and architecture + _QUICKGELU in known:
        architecture, needs_quick = architecture + _QUICKGELU, False
    return ResolvedModel(f"{architecture}/{tag}", architecture, pretrained, needs_quick)


def from_hub(fetch: Callable[[], Result], what: str, *, offline: bool) -> Result:
    """Fetch something from the cache of the hub, or else from the hub.

    The cache is tried first, so that cached models need no network. One short request finds out whether the hub can
    be reached, instead of the many retries of its client.

    Args:
        fetch: Function that gets it through ``huggingface_hub``.
        what: Name of it, for error messages.
        offline: Whether to use only the cache.

    Raises:
        WeightsUnavailableError: It is not cached and cannot be fetched.
        ModelError: It needs a package that is not installed.
    """
    from huggingface_hub import constants, get_session

    before = constants.HF_HUB_OFFLINE
    try:
        constants.HF_HUB_OFFLINE = True
        with quiet():
            return fetch()
    except Exception as error:
        # open_clip, transformers and the hub raise all kinds of exceptions for what is not cached.
        if isinstance(error, ImportError) or "pip install" in str(error):
            raise ModelError(f"{what} needs a package that is not installed: {error}") from error
        reason, cause = "It is not in the cache of the hub, and the network is off (offline).", error
    finally:
        constants.HF_HUB_OFFLINE = before
    if not (offline or before):
        try:
            get_session().head(constants.ENDPOINT, timeout=_TIMEOUT)
        except Exception as error:  # each transport raises its own
            reason = f"It is not in the cache of the hub, and {constants.ENDPOINT} cannot be reached ({error})."
        else:
            try:
                with quiet():
                    return fetch()
            except Exception as error:
                reason, cause = first_line(error), error
    raise WeightsUnavailableError(
        f"Cannot load {what}. {reason} Cache: {constants.HF_HUB_CACHE}.\n"
        "Try one of these:\n"
        "  --weights FILE   load the weights from a file (safetensors, or a torch file of tensors only)\n"
        "  run once with network access, or set HF_HOME to a cache that has the model\n"
        "  --model lite     use the embedded model, which needs no download"
    ) from cause


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the logs of open_clip (on the root logger), the hub, and transformers."""
    root, handler = logging.getLogger(), logging.NullHandler()  # the handler keeps logging from adding its own
    libraries = [logging.getLogger(name) for name in ("huggingface_hub", "transformers", "httpx", "httpx2")]
    levels, disabled = [library.level for library in libraries], root.disabled
    root.addHandler(handler)
    root.disabled = True
    for library in libraries:
        library.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.disabled = disabled
        root.removeHandler(handler)
        for library, level in zip(libraries, levels, strict=True):
            library.setLevel(level)


def _find_weights(model: ResolvedModel, *, offline: bool) -> Path:
    """Return the weights file of a model, fetching it if needed."""
    from open_clip.pretrained import download_pretrained, download_pretrained_from_hf

    scheme, _, rest = model.architecture.partition(":")
    if scheme == "hf-hub":
        return Path(from_hub(lambda: download_pretrained_from_hf(rest), model.name, offline=offline))
    if scheme == "local-dir":
        folder = Path(rest)
        if not (folder / "open_clip_config.json").is_file():
            raise UsageError(f"Expected open_clip_config.json in {folder}, found none. local-dir: needs one.")
        files = [folder / name for name in CHECKPOINTS if (folder / name).is_file()]
        files += [file for ending in ("safetensors", "bin", "pt") for file in sorted(folder.glob(f"*.{ending}"))]
        if not files:
            raise WeightsUnavailableError(f"Found no weights in {folder}. Add {CHECKPOINTS[0]}.")
        return files[0]
    if not model.pretrained.get("hf_hub"):
        # Weights at a plain URL have no cache that could be checked first.
        raise WeightsUnavailableError(
            f"The weights of {model.name} are not on the hub. Download them from {model.pretrained.get('url')} and "
            "pass the file with --weights."
        )
    return Path(from_hub(lambda: download_pretrained(model.pretrained), model.name, offline=offline))


def _read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a weights file, without running code that it may contain.

    Raises:
        WeightsUnavailableError: The file does not exist.
        WeightsRefusedError: The file could run code, is damaged, or holds something else.
    """
    if not path.is_file():
        raise WeightsUnavailableError(f"The weights file {path} does not exist. Check --weights.")
    with path.open("rb") as file:
        is_safetensors = file.read(9)[8:] == b"{" or path.suffix == ".safetensors"
    try:
        with warnings.catch_warnings():
            # torch warns about pickle protocols newer than its own; weights_only checks the content either way.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            content: Any = (
                load_file(path) if is_safetensors else torch.load(path, map_location="cpu", weights_only=True)
            )
    except _UNREADABLE as error:
        if is_safetensors:
            raise WeightsRefusedError(
                f"{path} is damaged or not a safetensors file ({error}). Download it again."
            ) from error
        reason = "is a TorchScript archive, which is code" if "TorchScript" in str(error) else "holds more than tensors"
        raise WeightsRefusedError(
            f"{path} {reason}, or is damaged. It was not opened, because that could run code. If you trust it, convert "
            "it to safetensors: safetensors.torch.save_file(model.state_dict(), FILE)."
        ) from error
    if isinstance(content, dict):
        content = next((content[key] for key in _WRAPPED if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not content:
        raise WeightsRefusedError(f"{path} holds no state dict (names and tensors). Save model.state_dict().")
    for key, value in content.items():
        if not isinstance(value, torch.Tensor | int):
            raise WeightsRefusedError(f"{key!r} in {path} is not a tensor. Save only model.state_dict().")
    # torch.compile adds its prefix to each module that is compiled.
    names = {key: _WRAPPERS.sub("", str(key).replace("_orig_mod.", "")) for key in content}
    if len(set(names.values())) < len(names):
        twice = next(name for name, count in Counter(names.values()).items() if count > 1)
        found = ", ".join(str(key) for key, name in names.items() if name == twice)
        raise WeightsRefusedError(f"{path} contains several models ({found}). Save model.state_dict() of one of them.")
    return {names[key]: torch.as_tensor(value) for key, value in content.items()}


def _load_weights(model: Any, state: dict[str, torch.Tensor], path: Path, *, resize: bool) -> None:
    """Load a state dict into a model on the CPU in float32, in place.

    Args:
        model: The open_clip model.
        state: Tensors by name.
        path: File of the state dict, for error messages.
        resize: Whether to interpolate position embeddings of another size, as open_clip does; otherwise an error.

    Raises:
        WeightsRefusedError: The weights do not fit the model, or need another activation.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed

    if state.keys() >= _OPENAI_KEYS and not uses_quick_gelu(model):
        raise WeightsRefusedError(
            f"{path} holds OpenAI's weights, which need QuickGELU and give wrong scores without. "
            "Use the architecture whose name ends in -quickgelu."
        )
    # As open_clip.factory.load_checkpoint, which cannot be used: it always resizes, and its errors name no file.
    state = dict(convert_state_dict(model, {key: state[key] for key in state.keys() - _OPENAI_KEYS}))
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    expected = model.state_dict()
    for name in ("logit_scale", "logit_bias"):
        if name in expected and name in state and state[name].numel() == expected[name].numel():
            state[name] = state[name].reshape(expected[name].shape)
    if "logit_bias" in expected:
        state.setdefault("logit_bias", torch.zeros_like(expected["logit_bias"]))
    if "text.transformer.embeddings.position_ids" not in expected:  # stored by older versions of transformers
        state.pop("text.transformer.embeddings.position_ids", None)
    if resize:
        resize_pos_embed(state, model)
        resize_text_pos_embed(state, model)
    problems = {
        "of another shape": [
            f"{key} is {tuple(state[key].shape)}, expected {tuple(expected[key].shape)}"
            for key in expected
            if key in state and expected[key].shape != state[key].shape
        ],
        "missing": [key for key in expected if key not in state],
        "unknown to the model": [key for key in state if key not in expected],
    }
    lines = [
        f"{len(keys)} parameters {kind} ({', '.join(keys[:_LISTED])}{', …' if len(keys) > _LISTED else ''})"
        for kind, keys in problems.items()
        if keys
    ]
    if lines:
        raise WeightsRefusedError(f"{path} is for another model: {'; '.join(lines)}. Check --model.")
    model.load_state_dict(state)


def _other_activation(architecture: str) -> str:
    """Return the name that the same architecture with the other activation has, if it exists."""
    quick = architecture.endswith(_QUICKGELU)
    return architecture.removesuffix(_QUICKGELU) if quick else architecture + _QUICKGELU


def _suggest_model(model: str, architecture: str, known: list[str]) -> str:
    """Return what to give instead of an unknown model, to append to a message."""
    if model and Path(model).is_dir():
        return f" For a folder with open_clip_config.json and weights, use local-dir:{model}."
    if Path(model).is_file():
        return " For a file of weights, name the architecture: --model ARCHITECTURE --weights FILE."
    if close := did_you_mean(architecture, [*known, "lite"], n=3):
        return close
    hub = f" For a model on the hub with open_clip_config.json, use hf-hub:{model}." if "/" in model else ""
    return f"{hub} Run `i0tscore doctor --models` to list the models."
