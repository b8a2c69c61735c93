import numpy as np
import pytest
from sklearn.decomposition import PCA

from keras_ae import linear
from keras_ae.errors import ConfigurationError, DataError
from keras_ae.models import ConvAutoencoder
from keras_ae.tiles import to_float


def test_moments_are_exact_and_the_same_in_any_order(photographs):
    forwards = linear.patch_moments(photographs, 8)
    backwards = linear.patch_moments(photographs[::-1], 8)
    assert np.array_equal(forwards, backwards)
    assert forwards[0, 0] == sum((p.shape[0] // 8) * (p.shape[1] // 8) for p in photographs)


def test_components_are_those_of_scikit_learn(photographs):
    image = photographs[0][:256, :256]
    patches = image.reshape(32, 8, 32, 8, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 192) / 255.0
    theirs = PCA(8).fit(patches)
    ours = linear.fit(linear.patch_moments([image], 8), 8)
    np.testing.assert_allclose(ours.mean, theirs.mean_, atol=1e-9)
    np.testing.assert_allclose(
        np.abs(np.sum(ours.components * theirs.components_.T, axis=0)), 1.0, atol=1e-6
    )
    np.testing.assert_allclose(
        ours.scales, np.sqrt(theirs.explained_variance_ * (1023 / 1024)), rtol=1e-6
    )


def test_before_the_first_epoch_the_model_equals_pca(photographs):
    pca = linear.fit(linear.patch_moments(photographs, 8), 8)
    model = ConvAutoencoder("medium")
    linear.set_linear_path(model, pca)
    image = to_float(photographs[1][None, :101, :77])
    np.testing.assert_allclose(
        np.asarray(model(image)), np.asarray(linear.reconstruct(image, pca, 8)), atol=1e-5
    )


def test_a_constant_image_gives_finite_weights_and_itself_back():
    image = np.full((32, 32, 3), 77, np.uint8)
    pca = linear.fit(linear.patch_moments([image], 8), 8)
    model = ConvAutoencoder("medium")
    linear.set_linear_path(model, pca)
    np.testing.assert_allclose(np.asarray(model(to_float(image[None]))), 77 / 255, atol=1e-5)


@pytest.mark.parametrize("count", [0, 193])
def test_more_components_than_numbers_in_a_patch_are_refused(photographs, count):
    with pytest.raises(ConfigurationError, match=f"1 to 192.*got {count}"):
        linear.fit(linear.patch_moments(photographs[:1], 8), count)


def test_images_without_a_whole_patch_are_refused():
    with pytest.raises(DataError, match="at least 8x8"):
        linear.patch_moments([np.zeros((7, 30, 3), np.uint8)], 8)
