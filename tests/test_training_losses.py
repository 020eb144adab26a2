"""I0T's losses compared with their formulas, and dropout inside attention."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from numpy.typing import NDArray
from torch import nn

from i0tscore.encoders.attention import attention_dropout
from i0tscore.encoders.lite import load_lite
from i0tscore.errors import ModelError, UsageError
from i0tscore.training.losses import (
    contrastive_loss,
    cross_modal_cyclic_loss,
    i0t_loss,
    in_modal_cyclic_loss,
)


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny_models.register(tmp_path_factory.mktemp("configs"))


def units(count: int, seed: int) -> NDArray[np.float64]:
    rows = np.random.default_rng(seed).normal(size=(count, 5))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def contrastive(x: NDArray[Any], y: NDArray[Any], scale: float) -> float:
    logits = scale * x @ y.T
    rows = np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)
    columns = np.log(np.exp(logits).sum(axis=0)) - np.diag(logits)
    return float((rows.mean() + columns.mean()) / 2)


def test_cyclic_losses_equal_their_formulas() -> None:
    x, y, n = units(7, 0), units(7, 1), 7
    in_modal = sum((x[j] @ x[k] - y[j] @ y[k]) ** 2 for j in range(n) for k in range(n)) / n
    cross_modal = sum((x[j] @ y[k] - x[k] @ y[j]) ** 2 for j in range(n) for k in range(n)) / n
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    assert in_modal_cyclic_loss(a, b).item() == pytest.approx(in_modal, abs=1e-6)
    assert cross_modal_cyclic_loss(a, b).item() == pytest.approx(cross_modal, abs=1e-6)
    # I0T's code: mean square of logit differences / scale² · batch size.
    logits = 100 * x @ y.T
    of_logits = ((logits - logits.T) ** 2).mean() / 100**2 * n
    assert cross_modal_cyclic_loss(a, b).item() == pytest.approx(of_logits, abs=1e-6)


def test_label_smoothing_spreads_a_share_of_each_target_evenly() -> None:
    x, y = (torch.from_numpy(units(6, seed)) for seed in range(2))
    targets = 0.9 * torch.eye(6) + 0.1 / 6
    smooth = contrastive_loss(x, y, 10.0, smoothing=0.1)
    torch.testing.assert_close(smooth, contrastive_loss(x, y, 10.0, targets.to(x)))
    torch.testing.assert_close(i0t_loss([x], [y], 10.0, 0, smoothing=0.1), smooth)


def test_mcsie_is_the_mean_over_four_pairs() -> None:
    x1, x2, y1, y2 = (units(6, seed) for seed in range(4))
    expected = np.mean([contrastive(x, y, 10.0) for x in (x1, x2) for y in (y1, y2)])
    passes = [torch.from_numpy(one) for one in (x1, x2, y1, y2)]
    found = i0t_loss(passes[:2], passes[2:], 10.0, cyclic_weight=0)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def digest(model: nn.Module) -> str:
    tensors = model.state_dict()
    return hashlib.sha256(b"".join(tensors[key].numpy().tobytes() for key in sorted(tensors))).hexdigest()


@pytest.mark.parametrize("name", ["tiny", "tiny-custom-text", "tiny-coca", "lite"])
def test_passes_differ_under_dropout_and_the_model_is_restored(name: str) -> None:
    encoder: Any = load_lite() if name == "lite" else tiny_models.encoder(name)
    tokens = encoder.tokenize(["a dog runs", "two boys play football"])
    before, bytes_before = encoder.encode_tokens(tokens), digest(encoder.model)
    modes = [module.training for module in encoder.model.modules()]
    with attention_dropout(encoder.model, 0.1) as layers:
        torch.manual_seed(0)
        first, second = encoder.encode_tokens(tokens), encoder.encode_tokens(tokens)
        torch.manual_seed(0)
        again = encoder.encode_tokens(tokens)
    assert layers >= 4
    assert not torch.equal(first, second)
    assert torch.equal(first, again)
    assert (first * before).sum(dim=1).min() > 0.5
    assert torch.equal(encoder.encode_tokens(tokens), before)
    assert digest(encoder.model) == bytes_before
    assert [module.training for module in encoder.model.modules()] == modes


def test_dropout_applies_to_images() -> None:
    encoder = tiny_models.encoder("tiny")
    pixels = torch.randn(2, 3, 32, 32)
    before = encoder.encode_pixels(pixels)
    with attention_dropout(encoder.model, 0.1):
        assert not torch.equal(encoder.encode_pixels(pixels), encoder.encode_pixels(pixels))
    with attention_dropout(encoder.model, 0.0):
        torch.testing.assert_close(encoder.encode_pixels(pixels), before, rtol=0, atol=1e-6)


def test_dropout_behind_mlps_is_an_option() -> None:
    encoder = tiny_models.encoder("tiny")
    tokens, outputs = encoder.tokenize(["a dog runs", "two boys play football"]), []
    mlps = [block.mlp for block in encoder.model.modules() if hasattr(block, "mlp")]
    assert len(mlps) >= 4
    for mlp in (False, True):
        outputs.clear()
        with attention_dropout(encoder.model, 0.3, mlp=mlp):
            # Added after those of the context, so these see the output behind the dropout.
            hooks = [one.register_forward_hook(lambda _, __, out: outputs.append(out == 0)) for one in mlps]
            encoder.encode_tokens(tokens)
        for hook in hooks:
            hook.remove()
        zeros = torch.cat([one.flatten() for one in outputs]).float().mean().item()
        assert zeros == pytest.approx(0.3 if mlp else 0.0, abs=0.05)
    assert not any(one._forward_hooks for one in mlps)
    with (
        pytest.raises(ModelError, match="no block with an MLP"),
        attention_dropout(nn.MultiheadAttention(4, 2), mlp=True),
    ):
        pass


def test_dropout_is_removed_after_an_error() -> None:
    layer = nn.MultiheadAttention(4, 2).eval()
    with pytest.raises(RuntimeError, match="stop"), attention_dropout(layer):
        raise RuntimeError("stop")
    assert (layer.dropout, layer.training) == (0.0, False)


def test_dropout_without_effect_is_rejected() -> None:
    with pytest.raises(ModelError, match="no supported attention layer"), attention_dropout(nn.Linear(2, 2)):
        pass
    with pytest.raises(UsageError, match=r"\[0, 1\), got 1.5"), attention_dropout(nn.Linear(2, 2), 1.5):
        pass
