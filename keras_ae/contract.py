"""Names and limits that exporter, server and client share. Standard library only."""

from typing import Final

# tf.Example features
IMAGE_ENCODED: Final = "image/encoded"
IMAGE_FORMAT: Final = "image/format"
IMAGE_HEIGHT: Final = "image/height"
IMAGE_WIDTH: Final = "image/width"
IMAGE_SOURCE: Final = "image/source"
IMAGE_LABEL: Final = "image/label"
IMAGE_PICTURE: Final = "image/picture"
"""Names the picture that an image is one of several copies of; other images do not have it."""

# Slices of the test images: every example has one feature for each
SLICES: Final = ("label", "source", "size", "brightness", "detail")
SLICE_PREFIX: Final = "slice/"
NO_SLICE: Final = "none"
"""Value for images without label or folder, and for images that were not measured."""

# Splits
TRAIN: Final = "train"
VAL: Final = "val"
TEST: Final = "test"
SPLITS: Final = (TRAIN, VAL, TEST)

# SavedModel signatures
SERVING_DEFAULT: Final = "serving_default"
RECONSTRUCT: Final = "reconstruct"
ENCODE: Final = "encode"
DECODE: Final = "decode"
SCORE: Final = "score"

# Tensors of the signatures
IMAGE_BYTES: Final = "image_bytes"
IMAGES: Final = "images"
LATENTS: Final = "latents"
STEPS: Final = "steps"
MODEL_ID: Final = "model_id"
EXAMPLES: Final = "examples"
RECONSTRUCTION_PNG_BYTES: Final = "reconstruction_png_bytes"
RECONSTRUCTIONS: Final = "reconstructions"
MSE: Final = "mse"
PSNR: Final = "psnr"
SSIM: Final = "ssim"
MS_SSIM: Final = "ms_ssim"
FLOOR_PSNR: Final = "floor_psnr"
PERCENTILE: Final = "percentile"
VAL_IMAGES: Final = "val_images"
STATUS: Final = "status"

UNUSUAL_PERCENTILE: Final = 0.99
"""Images from this percentile on are unlike those that the model was trained on."""

MIN_VAL_IMAGES: Final = 99
"""Number of val images from which on it can be told whether an image is unusual. The percentile of
an image that is worse than all n is n / (n + 1), which reaches 0.99 with n = 99."""

WARMUP_FILE: Final = "assets.extra/tf_serving_warmup_requests"
"""Path in a SavedModel of the requests that a server runs before it serves it."""

METADATA_FILE: Final = "assets.extra/keras_ae.json"
"""Path in a SavedModel of its facts that no signature tells; absent from older models."""

MAX_PSNR: Final = 100.0
"""PSNR in dB of an exact reconstruction."""

IMAGE_SUFFIXES: Final = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
"""Suffixes of image files, in lower case. They are hints: the first bytes tell what a file is."""

MAX_PIXELS: Final = 64_000_000
"""Maximum of height times width of an image; larger ones are not decoded."""

MAX_REQUEST_PIXELS: Final = 4 * MAX_PIXELS
"""Maximum number of pixels of all encoded images of a request together."""

TOO_MANY_PIXELS: Final = (
    f"more than {MAX_REQUEST_PIXELS:,} pixels with the images before it: send fewer at once"
)
"""Status of an image that is not decoded because the images before it reach the limit."""
