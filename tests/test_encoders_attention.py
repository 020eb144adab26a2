from __future__ import annotations

import pytest
import tiny_models
import torch
from torch import nn
from torch.nn import functional

from i0tscore.encoders.attention import SelfAttention, rewrite_attention


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny_models.register(tmp_path_factory.mktemp("configs"))


@pytest.mark.parametrize("name", ["tiny", "tiny-custom-text", "tiny-two-way", "tiny-coca"])
def test_rewritten_attention_has_the_same_output(name: str) -> None:
    stock, rewritten = tiny_models.stock(name), tiny_models.stock(name)
    before = set(rewritten.state_dict())
    blocks = 6 if name == "tiny-coca" else 4
    assert rewrite_attention(rewritten) == blocks
    assert set(rewritten.state_dict()) == before
    pixels = torch.randn(3, 3, 32, 32)
    ids = torch.randint(1, 49000, (3, stock.context_length))
    ids[:, -1] = 49407
    for a, b in (
        (stock.encode_image(pixels), rewritten.encode_image(pixels)),
        (stock.encode_text(ids), rewritten.encode_text(ids)),
    ):
        cosine = functional.cosine_similarity(a.double(), b.double())
        assert (1 - cosine).abs().max() < 1e-6


def test_parameters_are_shared_and_gradients_equal() -> None:
    torch.manual_seed(0)
    original = nn.MultiheadAttention(32, 4, batch_first=True)
    ours = SelfAttention(original)
    assert ours.in_proj_weight is original.in_proj_weight
    x = torch.randn(2, 5, 32, requires_grad=True)
    mask = torch.full((5, 5), float("-inf")).triu(1)
    (a,) = torch.autograd.grad(original(x, x, x, need_weights=False, attn_mask=mask)[0].square().sum(), x)
    (b,) = torch.autograd.grad(ours(x, x, x, attn_mask=mask)[0].square().sum(), x)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_cross_attention_is_not_changed() -> None:
    decoder = tiny_models.stock("tiny-coca").text_decoder
    rewrite_attention(decoder)
    assert all(isinstance(block.attn, nn.MultiheadAttention) for block in decoder.cross_attn)
    assert all(isinstance(block.attn, SelfAttention) for block in decoder.resblocks)
