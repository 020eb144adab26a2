from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch

from i0tscore.encoders import load_encoder
from i0tscore.errors import InputError, ModelError, UsageError
from i0tscore.gap import normalize
from studies.closed_form import isoclip, linear_projectors, project_pca

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny_models.register(tmp_path_factory.mktemp("configs"))


@pytest.mark.parametrize(("top", "bottom"), [(0, 0), (3, 2), (0, 7), (7, 0)])
def test_isoclip_on_embeddings_equals_the_paper_on_features(top: int, bottom: int) -> None:
    features, own, other = RNG.normal(size=(9, 12)), RNG.normal(size=(12, 8)), RNG.normal(size=(10, 8))
    w_image, w_text = own.T, other.T
    u = np.linalg.svd(w_image.T @ w_text)[0][:, top : 8 - bottom]
    expected = normalize(features @ (w_image @ u @ u.T).T)
    found = isoclip(normalize(features @ own), own, other, top=top, bottom=bottom)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_only_a_partial_band_changes_cosines() -> None:
    projectors = linear_projectors(tiny_models.encoder())
    embeddings = normalize(RNG.normal(size=(20, 32)) @ projectors.image)
    same = isoclip(embeddings, *projectors, top=0, bottom=0)
    np.testing.assert_allclose(same @ same.T, embeddings @ embeddings.T, atol=1e-9)
    narrow = isoclip(embeddings, *projectors, top=2, bottom=4)
    assert np.linalg.matrix_rank(narrow, tol=1e-6) == 10
    assert np.abs(narrow @ narrow.T - embeddings @ embeddings.T).max() > 0.05


@pytest.mark.parametrize("name", ["tiny", "tiny-custom-text", "tiny-coca"])
def test_projectors_reproduce_the_embeddings(name: str) -> None:
    encoder = tiny_models.encoder(name)
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    embeddings = encoder.encode_pixels(pixels).numpy()
    projectors = linear_projectors(encoder)
    encoder.model.visual.proj = None
    features = encoder.image_features(pixels).numpy()
    np.testing.assert_allclose(normalize(features @ projectors.image), embeddings, atol=1e-5)
    assert projectors.text.shape == (32, 16)


def test_models_without_linear_projections_are_rejected() -> None:
    with pytest.raises(ModelError, match="image tower of lite does not end in a linear projection"):
        linear_projectors(load_encoder("lite"))
    encoder = tiny_models.encoder()
    del encoder.model.text_projection
    encoder.model.text_projection = torch.nn.Linear(32, 16)
    with pytest.raises(ModelError, match="text tower of tiny does not end in a linear projection"):
        linear_projectors(encoder)


@pytest.mark.parametrize(("top", "bottom"), [(-1, 0), (0, -1), (4, 4), (9, 0)])
def test_empty_bands_are_rejected(top: int, bottom: int) -> None:
    with pytest.raises(UsageError, match="Expected top and bottom to leave some of 8 singular values"):
        isoclip(np.eye(8), RNG.normal(size=(12, 8)), RNG.normal(size=(10, 8)), top=top, bottom=bottom)


def test_pca_equals_that_of_the_covariance_matrix() -> None:
    texts = (RNG.normal(size=(60, 10)) * np.linspace(3, 0.5, 10) + 4).astype(np.float32)
    embeddings = RNG.normal(size=(7, 10)).astype(np.float32)
    vectors = np.linalg.eigh(np.cov(texts.T))[1][:, ::-1]
    for asked, count in ((None, 5), (3, 3)):
        expected = normalize(embeddings @ vectors[:, :count])
        found = project_pca(embeddings, texts, asked)
        assert (found.shape, found.dtype) == ((7, count), np.float32)
        np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)


def test_all_components_keep_the_cosines() -> None:
    embeddings = normalize(RNG.normal(size=(7, 6)))
    found = project_pca(embeddings, RNG.normal(size=(30, 6)), 6)
    np.testing.assert_allclose(found @ found.T, embeddings @ embeddings.T, atol=1e-9)


def test_components_out_of_range_are_rejected() -> None:
    for count in (0, 7):
        with pytest.raises(UsageError, match="Expected components from 1 to 6"):
            project_pca(np.eye(6), RNG.normal(size=(30, 6)), count)
    with pytest.raises(InputError, match="Expected more than 3 texts for 3 components, got 3"):
        project_pca(np.eye(6), RNG.normal(size=(3, 6)))
