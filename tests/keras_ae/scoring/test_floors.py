import math

import numpy as np
import pytest
from sklearn.decomposition import PCA

from keras_ae.models import linear
from keras_ae.scoring.floors import Floors, fit_global, floor_psnr
from keras_ae.scoring.reading import digest_of


def smooth(count: int, height: int = 8, width: int = 12, seed: int = 0) -> np.ndarray:
    """uint8 [count, height, width, 1]."""
    steps = np.random.default_rng(seed).normal(0, 12, (count, height, width, 1))
    return np.clip(128 + steps.cumsum(1).cumsum(2), 0, 255).astype(np.uint8)


def floors_of(images: np.ndarray, whole: linear.GlobalPCA | None) -> Floors:
    return Floors(linear.fit(linear.patch_moments(images, 8), 2), 8, whole)


def test_the_global_floor_equals_scikit_learn_and_skips_other_sizes(write_examples):
    train, test = smooth(700), smooth(3, seed=1)
    pattern, _ = write_examples(train)
    whole, reason = fit_global(pattern, 8, 2, 1)
    assert reason is None
    psnr = floor_psnr(floors_of(train, whole), 1)
    pca = PCA(4, svd_solver="full").fit(train.reshape(700, -1) / 255.0)
    for image, value in zip(test, psnr(test)[:, 1]):
        vector = image.reshape(1, -1) / 255.0
        back = np.round(np.clip(pca.inverse_transform(pca.transform(vector)), 0, 1) * 255) / 255
        assert value == pytest.approx(-10 * math.log10(np.mean((back - vector) ** 2)), abs=0.02)
    other_size = psnr(smooth(2, 12, 8, seed=2))
    assert np.isnan(other_size[:, 1]).all()
    assert np.isfinite(other_size[:, 0]).all()


def test_an_exact_reconstruction_counts_as_100_db(write_examples):
    same = np.full((100, 8, 12, 1), 9, np.uint8)
    pattern, _ = write_examples(same)
    whole, _ = fit_global(pattern, 8, 2, 1)
    assert floor_psnr(floors_of(same, whole), 1)(same[:2]).tolist() == [[100.0, 100.0]] * 2


def test_a_missing_global_floor_has_a_reason(write_examples):
    pattern, _ = write_examples([*smooth(2), *smooth(1, 9)])
    whole, reason = fit_global(pattern, 8, 2, 1)
    assert whole is None
    assert reason.startswith("the training images differ in size: ")
    assert np.isnan(floor_psnr(floors_of(smooth(9), None), 1)(smooth(2))[:, 1]).all()


def test_digests_identify_encoded_images(write_examples):
    _, encoded = write_examples(smooth(3))
    assert len({digest_of(data) for data in encoded}) == 3
    assert digest_of(encoded[0]) == digest_of(bytes(encoded[0]))
    assert len(digest_of(b"")) == 16
