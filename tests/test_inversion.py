from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import tiny_models
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch.nn import functional

from i0tscore.encoders import load_encoder
from i0tscore.encoders.loop import embed_captions, embed_images
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.encoders.pseudo_inputs import cache_prompt
from i0tscore.encoders.text import TextTower
from i0tscore.errors import InputError, ModelError, SampleFileError, UsageError
from i0tscore.inversion import Inverted, invert_captions, invert_images
from i0tscore.inversion.invert import cosine_losses, initialize, insert_pseudo_tokens
from i0tscore.samples.embeddings import read_embeddings
from studies.flickr8k import read_split

EVAL_STEPS = (0, 1, 5, 20)
TEXT_TOWERS = [*tiny_models.CAUSAL, *tiny_models.FULL_LENGTH]


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny_models.register(tmp_path_factory.mktemp("configs"))


@pytest.fixture(scope="module")
def lite() -> OpenClipEncoder:
    encoder = load_encoder("lite")
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


def targets(n: int, d: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def word_vectors(encoder: OpenClipEncoder, words: str, count: int) -> torch.Tensor:
    """Return the model's own embeddings of the words, (1, count, width)."""
    bare, full = encoder.tokenize(["", words])
    ids = full.ids[1 : 1 + count]
    assert len(full.ids) == len(bare.ids) + count
    return encoder.model.get_submodule(encoder._token_embedding[0])(torch.tensor([ids]))


@pytest.mark.parametrize("name", TEXT_TOWERS)
def test_word_embeddings_as_pseudo_tokens_give_the_features_of_the_text(name: str) -> None:
    encoder = tiny_models.encoder(name)
    tower = encoder.prompt_tower(*insert_pseudo_tokens(encoder, "a photo of {} in snow", 2))
    features = tower(word_vectors(encoder, "two dogs", 2).repeat(3, 1, 1))
    expected = encoder.text_features(encoder.pad(encoder.tokenize(["a photo of two dogs in snow"])))
    torch.testing.assert_close(features, expected.expand(3, -1), atol=1e-6, rtol=1e-5)


def test_word_embeddings_as_pseudo_tokens_give_the_features_of_the_text_in_lite(lite: OpenClipEncoder) -> None:
    tower = lite.prompt_tower(*insert_pseudo_tokens(lite, "a photo of {} in snow", 2))
    features = tower(word_vectors(lite, "two dogs", 2))
    expected = lite.text_features(lite.pad(lite.tokenize(["a photo of two dogs in snow"])))
    torch.testing.assert_close(features, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", TEXT_TOWERS)
def test_only_causal_towers_cache_the_prefix_of_a_prompt(name: str) -> None:
    encoder = tiny_models.encoder(name)
    ids = encoder.pad(encoder.tokenize(["a photo of"]))[:, :4]
    assert len(cache_prompt(TextTower(encoder.model), ids)) == (2 if name in tiny_models.CAUSAL else 0)


def plain_text_features(model: Any, ids: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Compute open_clip's ``CLIP.encode_text`` over all 77 positions, with pseudo-tokens from position 4 on."""
    x = model.token_embedding(ids).expand(len(vectors), -1, -1)
    x = torch.cat([x[:, :4], vectors, x[:, 4 + vectors.shape[1] :]], dim=1) + model.positional_embedding
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))
    return x[:, ids[0].argmax()] @ model.text_projection


def plain_image_features(visual: Any, patches: torch.Tensor) -> torch.Tensor:
    """Compute open_clip's ``VisionTransformer`` from patches (n, rows · columns, width)."""
    start = visual.class_embedding.expand(len(patches), 1, -1)
    x = visual.ln_pre(torch.cat([start, patches], dim=1) + visual.positional_embedding)
    return visual.ln_post(visual.transformer(x))[:, 0] @ visual.proj


@pytest.mark.parametrize(("patches", "bands"), [(1, [16]), (3, [6, 5, 5])])
def test_inverted_captions_equal_those_of_a_plain_implementation(patches: int, bands: list[int]) -> None:
    stock = tiny_models.stock("tiny").requires_grad_(True)
    found = invert_captions(
        tiny_models.encoder("tiny"), targets(3), patches=patches, steps=20, eval_steps=tuple(range(21))
    )
    start = initialize(found.ids, 32, found.config)
    spread = torch.repeat_interleave(torch.arange(patches), torch.tensor(bands))
    plain = plain_descent(lambda v: plain_image_features(stock.visual, v[:, spread]), start, targets(3), 20)
    np.testing.assert_allclose(found.eval_losses, plain, atol=1e-4)
    assert (plain[:, 0] - plain[:, -1] > 0.1).all()
    assert found.config.signature.startswith("inv:ovi|m:tiny|space:")


@pytest.mark.parametrize("name", ["tiny", "tiny-large-images", "tiny-coca", "tiny-timm"])
def test_patches_as_pseudo_patches_give_the_features_of_the_image(name: str) -> None:
    encoder = timm_encoder() if name == "tiny-timm" else tiny_models.encoder(name)
    visual = encoder.model.visual
    pixels = torch.rand(2, 3, *visual.image_size, generator=torch.Generator().manual_seed(0))
    first = visual.trunk.patch_embed.proj if name == "tiny-timm" else visual.conv1
    patches = first(pixels)
    assert patches.shape[1:] == (encoder.patch_width, *encoder.patch_grid)
    expected = encoder.image_features(pixels)
    torch.testing.assert_close(on_whole_grid(encoder, patches), expected, atol=1e-6, rtol=1e-5)


def on_whole_grid(encoder: OpenClipEncoder, patches: torch.Tensor) -> torch.Tensor:
    """Return the features of patches (n, width, rows, columns), one per grid location."""
    flat = patches.flatten(2).transpose(1, 2)
    return encoder.patch_tower(flat.shape[1])(flat)


def timm_encoder() -> OpenClipEncoder:
    """Return a model with a timm vision transformer, like SigLIP."""
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(
        embed_dim=16,
        vision_cfg={"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160},
        text_cfg=tiny_models.TEXT,
    )
    settings = PreprocessCfg(size=160)
    open_clip.model.set_model_preprocess_cfg(model, vars(settings))
    transform = image_transform_v2(settings, is_train=False)
    return OpenClipEncoder(model, open_clip.get_tokenizer("tiny"), transform, name="tiny-timm")


def test_stage_features_as_pseudo_patches_give_the_features_of_the_image_in_lite(lite: OpenClipEncoder) -> None:
    trunk = lite.model.visual.trunk
    pixels = torch.rand(1, 3, 260, 260, generator=torch.Generator().manual_seed(0))
    stages = int(lite.patch_stage.removeprefix("blocks.")) + 1
    patches = trunk.blocks[:stages](trunk.bn1(trunk.conv_stem(pixels)))
    assert patches.shape[1:] == (lite.patch_width, *lite.patch_grid)
    torch.testing.assert_close(on_whole_grid(lite, patches), lite.image_features(pixels))


@pytest.mark.parametrize("count", [1, 2])
def test_pseudo_patches_on_the_reduced_grid_of_lite_equal_those_on_the_whole_grid(
    lite: OpenClipEncoder, count: int
) -> None:
    rows, columns = lite.patch_grid
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(3, count, lite.patch_width, generator=generator).requires_grad_()
    nearest = torch.arange(rows * columns) * count // (rows * columns)
    whole = lite.patch_tower(rows * columns)(patches[:, nearest])
    found = lite.patch_tower(count)(patches)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)
    slopes = [torch.autograd.grad(f.square().sum(), patches)[0] for f in (found, whole)]
    torch.testing.assert_close(*slopes, atol=1e-5, rtol=1e-4)


def test_gradients_of_pseudo_patches_equal_finite_differences() -> None:
    encoder = tiny_models.encoder()
    encoder.model.double()
    goals = torch.from_numpy(targets(2)).double()
    start = torch.randn(2, 32, 4, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(
        lambda v: cosine_losses(on_whole_grid(encoder, v), goals)[1], start.requires_grad_(), fast_mode=True
    )


def test_pseudo_patches_are_limited_by_the_grid() -> None:
    with pytest.raises(UsageError, match="Expected at most 16 patches"):
        invert_captions(tiny_models.encoder(), targets(1), patches=17)


def plain_descent(tower: Any, start: torch.Tensor, target: np.ndarray, steps: int) -> np.ndarray:
    """Compute losses (n, steps + 1), one item at a time, without code of the package."""
    curves = []
    for item, goal in zip(start, torch.from_numpy(target), strict=True):
        variable = torch.nn.Parameter(item[None].clone())
        optimiser = torch.optim.AdamW([variable], lr=2e-2, weight_decay=0.01)
        curve = []
        for _ in range(steps + 1):
            loss = functional.cosine_embedding_loss(tower(variable), goal[None], torch.ones(1))
            curve.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        curves.append(curve)
    return np.array(curves)


@pytest.mark.parametrize("tokens", [1, 3])
def test_inverted_images_equal_those_of_a_plain_implementation(tokens: int) -> None:
    stock = tiny_models.stock("tiny").requires_grad_(True)
    found = invert_images(tiny_models.encoder("tiny"), targets(3), tokens=tokens, steps=20, eval_steps=tuple(range(21)))
    ids = open_clip.get_tokenizer("tiny")([f"a photo of {' '.join(['£'] * tokens)}"])
    start = initialize(found.ids, 32, found.config)
    plain = plain_descent(lambda v: plain_text_features(stock, ids, v), start, targets(3), 20)
    np.testing.assert_allclose(found.eval_losses, plain, atol=1e-4)
    np.testing.assert_allclose(found.losses, plain[:, -1], atol=1e-4)
    assert (plain[:, 0] - plain[:, -1] > 0.1).all()


@pytest.mark.parametrize("name", TEXT_TOWERS)
def test_gradients_of_pseudo_tokens_equal_finite_differences(name: str) -> None:
    encoder = tiny_models.encoder(name)
    encoder.model.double()
    tower = encoder.prompt_tower(*insert_pseudo_tokens(encoder, "a photo of {}", 2))
    goals = torch.from_numpy(targets(2)).double()
    start = torch.randn(2, 2, 32, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda v: cosine_losses(tower(v), goals)[1], start.requires_grad_(), fast_mode=True)


def test_results_do_not_depend_on_the_batch() -> None:
    encoder, goals = tiny_models.encoder(), targets(7)
    whole = invert_images(encoder, goals, steps=20, eval_steps=EVAL_STEPS)
    for size in (1, 3):
        other = invert_images(encoder, goals, steps=20, eval_steps=EVAL_STEPS, batch_size=size)
        np.testing.assert_allclose(other.vectors, whole.vectors, atol=1e-4)
        np.testing.assert_allclose(other.eval_losses, whole.eval_losses, atol=1e-4)
    alone = invert_images(encoder, goals[5:6], ids=["5"], steps=20, eval_steps=EVAL_STEPS)
    np.testing.assert_allclose(alone.vectors, whole.vectors[5:6], atol=1e-4)
    assert np.abs(invert_images(encoder, goals, steps=20, seed=1).vectors - whole.vectors).max() > 1e-3


def test_fields_of_the_result_are_consistent() -> None:
    goals = targets(3)
    found = invert_images(tiny_models.encoder(), 3 * goals, ids=["a", "b", "c"], steps=20, eval_steps=EVAL_STEPS)
    assert found.ids == ("a", "b", "c")
    assert found.vectors.dtype == found.eval_losses.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(1 - (found.vectors * goals).sum(axis=1), found.losses, atol=1e-6)
    np.testing.assert_allclose(1 - (found.eval_vectors * goals[:, None]).sum(axis=2), found.eval_losses, atol=1e-6)
    np.testing.assert_array_equal(found.eval_vectors[:, -1], found.vectors)
    assert found.updates.tolist() == [20, 20, 20]
    assert found.config.signature.startswith("inv:oti|m:tiny|space:")


def test_saved_features_load_and_are_embeddings(tmp_path) -> None:
    found = invert_images(tiny_models.encoder(), targets(3), steps=5, eval_steps=(0, 5))
    found.save(tmp_path / "x.safetensors")
    back = Inverted.load(tmp_path / "x.safetensors")
    assert (back.ids, back.config) == (found.ids, found.config)
    for name in ("vectors", "losses", "updates", "eval_losses", "eval_vectors"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
    np.testing.assert_allclose(read_embeddings(tmp_path / "x.safetensors").vectors, found.vectors, atol=1e-6)
    (tmp_path / "y.safetensors").write_bytes(b"something else")
    for name in ("y", "missing"):
        with pytest.raises(SampleFileError):
            Inverted.load(tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match="Cannot write"):
        found.save(tmp_path / "no" / "folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_pipes_are_written_to_and_not_replaced(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
    try:
        invert_images(tiny_models.encoder(), targets(1), steps=1).save(tmp_path / "pipe")
        assert len(os.read(end, 65536)) > 100
    finally:
        os.close(end)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    assert (tmp_path / "pipe").is_fifo(), "so /dev/null is not replaced either"


class _KilledError(Exception):
    pass


def test_killed_run_resumes_to_the_same_result(tmp_path, monkeypatch) -> None:
    encoder, goals = tiny_models.encoder(), targets(7)
    options: dict[str, Any] = {"steps": 10, "eval_steps": (0, 10), "batch_size": 2}
    whole = invert_images(encoder, goals, **options)
    save, written = Inverted.save, []

    def save_twice(self: Inverted, path: Any) -> None:
        if len(written) == 2:
            raise _KilledError
        save(self, path)
        written.append(path)

    with monkeypatch.context() as patch:
        patch.setattr(Inverted, "save", save_twice)
        with pytest.raises(_KilledError):
            invert_images(encoder, goals, resume=tmp_path, **options)
    before = {path: path.stat().st_mtime_ns for path in written}
    resumed = invert_images(encoder, goals, resume=tmp_path, **options)
    np.testing.assert_array_equal(resumed.vectors, whole.vectors)
    np.testing.assert_array_equal(resumed.eval_losses, whole.eval_losses)
    assert {path: path.stat().st_mtime_ns for path in written} == before
    assert len(list(tmp_path.iterdir())) == 4
    written[0].unlink()
    invert_images(encoder, goals, resume=tmp_path, **options)
    assert sum(len(Inverted.load(path).ids) for path in tmp_path.iterdir()) == 7, "no file is overwritten"
    with pytest.raises(UsageError, match="other settings"):
        invert_images(encoder, goals, resume=tmp_path, **(options | {"steps": 11}))
    with pytest.raises(UsageError, match="other items"):
        invert_images(encoder, goals[::-1], resume=tmp_path, **options)
    with pytest.raises(UsageError, match="other items"):
        invert_images(encoder, goals[:3], resume=tmp_path, **options)


def test_items_stop_without_progress() -> None:
    encoder, goals = tiny_models.encoder(), targets(4)
    options: dict[str, Any] = {"lr": 0.2, "steps": 200}
    full = invert_images(encoder, goals, eval_steps=tuple(range(201)), **options)
    early = invert_images(encoder, goals, patience=5, eval_steps=tuple(range(201)), **options)
    assert (early.updates < 190).sum() >= 2
    for i, best in enumerate(early.updates):
        curve = full.eval_losses[i]
        np.testing.assert_allclose(early.losses[i], curve[best], atol=1e-4)
        assert (curve[best + 1 : best + 6] > curve[best] - 1.1e-4).all()
        np.testing.assert_array_equal(early.eval_losses[i, best + 6 :], early.losses[i])
        np.testing.assert_array_equal(early.eval_vectors[i, -1], early.vectors[i])


def test_progress_is_shown_on_stderr(capsys) -> None:
    invert_images(tiny_models.encoder(), targets(3), steps=4, patience=1, batch_size=2, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "12/12" in err


class _Bare:
    """An encoder without support for inversion."""

    def __init__(self, encoder: OpenClipEncoder) -> None:
        self.encoder = encoder

    def __getattr__(self, name: str) -> Any:
        if name in {"device", "prompt_tower", "token_width", "patch_tower", "patch_grid", "patch_width"}:
            raise AttributeError(name)
        return getattr(self.encoder, name)


def test_unsupported_encoders_are_rejected_with_what_they_lack() -> None:
    bare: Any = _Bare(tiny_models.encoder())
    with pytest.raises(ModelError, match=r"_Bare does not support pseudo-tokens.*device, token_width, prompt_tower"):
        invert_images(bare, targets(1))
    with pytest.raises(ModelError, match=r"_Bare does not support pseudo-patches.*patch_width, patch_grid"):
        invert_captions(bare, targets(1))
    encoder = tiny_models.encoder()
    encoder.model.visual = copy.copy(encoder.model.visual.transformer)
    with pytest.raises(ModelError, match="image tower Transformer has no patch embeddings"):
        invert_captions(encoder, targets(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 0}, "tokens to be at least 1"),
        ({"tokens": 73}, "exceeds the context length of 77 by 1 tokens"),
        ({"template": "a photo"}, "Expected a template with {} once"),
        ({"steps": 0}, "steps to be at least 1"),
        ({"patience": 0}, "patience to be at least 1"),
        ({"batch_size": 0}, "batch_size to be at least 1"),
        ({"lr": 0.0}, "Expected lr > 0"),
        ({"eval_steps": (5, 1)}, "Expected eval_steps to increase"),
        ({"eval_steps": (151,)}, "between 0 and 150"),
    ],
)
def test_options_out_of_range_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        invert_images(tiny_models.encoder(), targets(1), **options)


def test_invalid_embeddings_and_ids_are_rejected() -> None:
    encoder = tiny_models.encoder()
    broken = targets(3)
    broken[1] = 0
    for vectors, ids, message in [
        (targets(2, 8), None, r"shape \(n, 16\)"),
        (broken, None, r"1 embeddings are zero, infinite or NaN \(rows 1\)"),
        (targets(2), ["a"], "Expected 2 ids, one per embedding, got 1"),
        (targets(2), ["a", "a"], r"occur more than once \(a\)"),
    ]:
        with pytest.raises(InputError, match=message):
            invert_images(encoder, vectors, ids=ids)


def test_features_that_are_not_finite_are_an_error() -> None:
    encoder = tiny_models.encoder()
    encoder.model.text_projection.fill_(float("nan"))
    with pytest.raises(ModelError, match="infinite or NaN"):
        invert_images(encoder, targets(1), steps=2)


@pytest.mark.data
def test_inverted_features_come_closer_than_any_real_one(lite: OpenClipEncoder, data_dir: Path) -> None:
    """They are closer to their targets than any caption (image) of the first forty images of the split."""
    split = read_split(data_dir, "test")
    images = embed_images(lite, list(split.images[:40])).vectors
    captions = embed_captions(lite, list(split.captions[: 5 * 40])).vectors
    cosines = images @ captions.T
    texts = invert_images(lite, images[:4], tokens=4, eval_steps=(0, 10, 50, 150))
    assert (1 - texts.losses > cosines[:4].max(axis=1)).all()
    assert (np.diff(texts.eval_losses, axis=1) < 0).all()
    pseudo_images = invert_captions(lite, captions[:15:5], steps=200, eval_steps=(0, 50, 200))
    assert (1 - pseudo_images.losses > cosines[:, :15:5].max(axis=0)).all()
    assert (np.diff(pseudo_images.eval_losses, axis=1) < 0).all()
