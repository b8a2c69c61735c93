import numpy as np
import pytest
from sklearn.decomposition import PCA

from keras_ae.errors import ConfigurationError, DataError, StorageError
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.layers import to_float, to_uint8


def test_moments_are_exact_and_the_same_in_any_order(photographs):
    forwards = linear.patch_moments(photographs, 8)
    backwards = linear.patch_moments(photographs[::-1], 8)
    assert np.array_equal(forwards, backwards)
    assert forwards[0, 0] == sum((p.shape[0] // 8) * (p.shape[1] // 8) for p in photographs)


def test_components_are_those_of_scikit_learn(photographs):
    image = photographs[0][:256, :256]
    patches = image.reshape(32, 8, 32, 8, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 192) / 255.0
    theirs = PCA(8, svd_solver="full").fit(patches)
    ours = linear.fit(linear.patch_moments([image], 8), 8)
    np.testing.assert_allclose(ours.mean, theirs.mean_, atol=1e-9)
    np.testing.assert_allclose(
        np.abs(np.sum(ours.components * theirs.components_.T, axis=0)), 1.0, atol=1e-6
    )
    np.testing.assert_allclose(
        ours.scales, np.sqrt(theirs.explained_variance_ * (1023 / 1024)), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("preset", "stride", "latent_channels"),
    [("medium", 8, 8), ("small", 2, 3), ("small", 4, 2), ("small", 16, 32)],
)
def test_before_the_first_epoch_the_model_equals_pca(photographs, preset, stride, latent_channels):
    pca = linear.fit(linear.patch_moments(photographs, stride), latent_channels)
    model = ConvAutoencoder(preset, stride=stride, latent_channels=latent_channels)
    linear.set_linear_path(model, pca)
    image = to_float(photographs[1][None, :101, :77])
    np.testing.assert_allclose(
        np.asarray(model(image)), np.asarray(linear.reconstruct(image, pca, stride)), atol=1e-5
    )


@pytest.mark.parametrize(("stride", "channels"), [(2, 3), (4, 1), (8, 3), (16, 3)])
def test_a_latent_with_as_many_values_as_the_image_is_lossless(photographs, stride, channels):
    image = photographs[1][None, :96, :64, :channels]
    latent_channels = stride * stride * channels
    # Most of its components have no variance.
    pca = linear.fit(linear.patch_moments(image[:, :32], stride), latent_channels)
    assert np.array_equal(linear.reconstruct_rounded(image, pca, stride), image)
    model = ConvAutoencoder("small", channels, stride, latent_channels)
    linear.set_linear_path(model, pca)
    assert np.array_equal(to_uint8(model(to_float(image))), image)


def test_components_are_restored_from_a_file(photographs, tmp_path):
    pca = linear.fit(linear.patch_moments(photographs, 8), 8)
    linear.save(pca, tmp_path / "new" / "floor.npz")
    for array, restored in zip(pca, linear.load(tmp_path / "new" / "floor.npz"), strict=True):
        np.testing.assert_array_equal(array, restored, strict=True)
    (tmp_path / "text").mkdir()
    with pytest.raises(StorageError, match=r"cannot write the floor .*text"):
        linear.save(pca, tmp_path / "text")


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04 and no more"])
def test_a_file_without_components_is_refused(content, tmp_path):
    path = tmp_path / "floor.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"floor\.npz contains no principal components"):
        linear.load(path)
    np.savez(path, mean=np.zeros(3))
    with pytest.raises(DataError, match=r"floor\.npz contains no principal components"):
        linear.load(path)


def test_constant_patches_have_a_defined_pca():
    image = np.full((32, 32, 3), 77, np.uint8)
    pca = linear.fit(linear.patch_moments([image], 8), 8)
    np.testing.assert_allclose(pca.mean, 77 / 255)
    np.testing.assert_allclose(pca.components.T @ pca.components, np.eye(8), atol=1e-12)
    np.testing.assert_array_equal(pca.scales, 1 / 255)


def test_a_constant_image_is_reconstructed_with_finite_weights():
    image = np.full((32, 32, 3), 77, np.uint8)
    pca = linear.fit(linear.patch_moments([image], 8), 8)
    model = ConvAutoencoder("medium")
    linear.set_linear_path(model, pca)
    np.testing.assert_allclose(np.asarray(model(to_float(image[None]))), 77 / 255, atol=1e-5)


@pytest.mark.parametrize("count", [0, 193])
def test_more_components_than_values_in_a_patch_are_refused(photographs, count):
    with pytest.raises(ConfigurationError, match=f"1 to 192.*got {count}"):
        linear.fit(linear.patch_moments(photographs[:1], 8), count)


def test_images_without_a_whole_patch_are_refused():
    with pytest.raises(DataError, match="at least 8x8"):
        linear.patch_moments([np.zeros((7, 30, 3), np.uint8)], 8)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("index", [(0, 0), (0, 3), (5, 5)])
def test_moments_that_are_not_finite_are_refused(value, index):
    moments = linear.image_moments(grey_images(20))
    moments[index] = value
    with pytest.raises(DataError, match="finite pixels"):
        linear.fit(moments, 4)


def test_moments_of_no_patch_are_refused():
    with pytest.raises(DataError, match="at least one patch"):
        linear.fit(np.zeros((65, 65)), 4)


def grey_images(count: int, height: int = 12, width: int = 10) -> np.ndarray:
    """Smooth random images, uint8 [count, height, width, 1]."""
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(6, height, width, 1)).cumsum(1).cumsum(2)
    images = np.tensordot(rng.normal(size=(count, 6)), waves, 1)
    images += rng.normal(size=images.shape)
    return np.clip(128 + 8 * images, 0, 255).astype(np.uint8)


def test_moments_of_images_are_exact_and_the_same_in_any_order():
    images = grey_images(2500)
    rows = np.hstack([np.ones((2500, 1), np.int64), images.reshape(2500, -1).astype(np.int64)])
    moments = linear.image_moments(iter(images))
    assert np.array_equal(moments, rows.T @ rows)
    assert np.array_equal(moments, linear.image_moments(images[::-1]))


def test_moments_are_those_of_one_patch_per_image():
    images = grey_images(30, 8, 8)
    assert np.array_equal(linear.image_moments(images), linear.patch_moments(images, 8))


def test_global_components_are_those_of_scikit_learn():
    images = grey_images(600)
    floor = linear.fit_global(iter(images), stride=4, latent_channels=2)
    vectors = images.reshape(600, -1) / 255.0
    # At stride 4, 12 x 10 pixels have 3 x 3 latent positions.
    theirs = PCA(18, svd_solver="full").fit(vectors)
    assert floor.shape == (12, 10, 1)
    assert floor.pca.components.shape == (120, 18)
    np.testing.assert_allclose(floor.pca.mean, theirs.mean_, atol=1e-12)
    np.testing.assert_allclose(
        np.abs(np.sum(floor.pca.components * theirs.components_.T, axis=0)), 1.0, atol=1e-6
    )
    held_out = grey_images(50)[::-1]
    expected = theirs.inverse_transform(theirs.transform(held_out.reshape(50, -1) / 255.0))
    np.testing.assert_allclose(
        np.asarray(linear.reconstruct_global(to_float(held_out), floor)),
        expected.reshape(held_out.shape),
        atol=1e-5,
    )


def test_constant_images_have_a_defined_global_pca():
    images = np.full((150, 12, 10, 1), 77, np.uint8)
    floor = linear.fit_global(images, stride=4, latent_channels=2)
    np.testing.assert_array_equal(floor.pca.scales, 1 / 255)
    reconstructions = np.asarray(linear.reconstruct_global(to_float(images[:3]), floor))
    np.testing.assert_allclose(reconstructions, 77 / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("shapes", "channels", "reason"),
    [
        ([], 8, "there is no training image"),
        ([(65, 8, 1)], 1, "images of 65x8 pixels are larger than a tile of 64x64"),
        ([(64, 64, 3)], 8, "an image has 12288 values; the limit is 4096"),
        ([(16, 12, 1)], 48, "a latent of 192 values is not smaller than an image of 192"),
        ([(16, 12, 1), (12, 16, 1)], 8, "the training images differ in size: 16x12 and 12x16"),
        ([(8, 8, 1)] * 63, 8, "63 training images are fewer than the 64 values of each"),
    ],
)
def test_if_there_is_no_global_floor_the_error_gives_the_reason(shapes, channels, reason):
    images = (np.zeros(shape, np.uint8) for shape in shapes)
    with pytest.raises(DataError, match=f"^{reason}$"):
        linear.fit_global(images, stride=8, latent_channels=channels)


def test_as_many_images_as_values_are_enough():
    assert linear.fit_global(grey_images(64, 8, 8), 8, 8).pca.components.shape == (64, 8)


def test_reading_stops_at_the_first_unsuitable_image():
    images = iter([np.zeros((65, 65, 1), np.uint8), np.zeros((8, 8, 1), np.uint8)])
    with pytest.raises(DataError, match="larger than a tile"):
        linear.fit_global(images, 8, 8)
    assert len(list(images)) == 1
