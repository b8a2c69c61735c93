"""Whether SavedModels can be compared by the outputs of their signature `score`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from keras_ae import contract as c
from keras_ae.errors import DataError, first_line
from keras_ae.saved_model.metadata import read_metadata

OUTPUTS: Final = (c.PSNR, c.SSIM, c.FLOOR_PSNR)
"""Outputs of `score` that a comparison needs."""


def signature_fault(model: Path, channels: int) -> str:
    """Why the signatures of a SavedModel do not allow to compare it; the model is not loaded.

    Args:
        model: folder of the SavedModel.
        channels: channels of the images that it is compared on, 1 or 3.

    Returns:
        What it is or lacks, to follow its name; empty if it can be compared.
    """
    try:
        score = _signatures(model).get(c.SCORE)
        if score is None:
            return f"has no signature `{c.SCORE}`"
        if list(score.inputs) != [c.EXAMPLES] or not set(OUTPUTS) <= set(score.outputs):
            return (
                f"has a signature `{c.SCORE}` with other inputs or outputs than `{c.EXAMPLES}` and "
                f"{', '.join(f'`{name}`' for name in OUTPUTS)}"
            )
        own = read_channels(model)
    except DataError as error:
        return f"is not a model of images: {error}"
    if own == channels:
        return ""
    return f"has {own} channel{'' if own == 1 else 's'}, and this model has {channels}"


def score_fault(model: Path, files: Sequence[str]) -> str:
    """Why a SavedModel cannot score an image, found by loading it and scoring one.

    Args:
        model: folder of the SavedModel.
        files: GZIP TFRecords of tf.Examples, of which the first is scored.

    Returns:
        What it is or lacks, to follow its name; empty if it can score the image.
    """
    import tensorflow as tf

    example = tf.data.TFRecordDataset(list(files), "GZIP").batch(1).take(1).get_single_element()
    try:
        with _unoptimized():
            score = tf.saved_model.load(str(model)).signatures[c.SCORE]
            outputs = score(**{c.EXAMPLES: example})
            failed = [name for name in (c.PSNR, c.FLOOR_PSNR) if not _is_number(outputs[name])]
    # Whatever another program has written there.
    except Exception as error:
        return f"cannot be loaded: {first_line(error)[:200]}"
    return f"gives no number as {' and '.join(failed)} of a test image" if failed else ""


def level_fault(model: Path, other: Path) -> str:
    """Why the levels of a SavedModel do not allow to compare it with another one.

    Args:
        model: folder of the SavedModel.
        other: folder of the one that it is compared with.

    Returns:
        What it is, to follow its name; empty if both map levels of images to the same pixels.
    """
    white, expected = (read_metadata(str(path)).white for path in (model, other))
    if white == expected:
        return ""
    return f"takes {white} for white in 16-bit images, and this model takes {expected}"


def read_channels(model: Path) -> int:
    """Channels of the images of a SavedModel.

    Raises:
        DataError: if it is not a SavedModel, or has no signature that takes pixels.
    """
    signatures = _signatures(model)
    for name in (c.RECONSTRUCT, c.ENCODE):
        if name in signatures and c.IMAGES in signatures[name].inputs:
            dimensions = signatures[name].inputs[c.IMAGES].tensor_shape.dim
            if len(dimensions) == 4:
                return int(dimensions[3].size)
    raise DataError(f"no signature `{c.RECONSTRUCT}` says how many channels its images have")


def _signatures(model: Path) -> Mapping[str, Any]:
    """The signatures of a SavedModel as protos, by name; it takes milliseconds."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    file = model / "saved_model.pb"
    try:
        graphs = saved_model_pb2.SavedModel.FromString(file.read_bytes()).meta_graphs
    except OSError as error:
        raise DataError(f"{file.name} cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise DataError(f"{file.name} is not a SavedModel") from error
    served = [graph for graph in graphs if "serve" in graph.meta_info_def.tags]
    return served[0].signature_def if served else {}


@contextmanager
def _unoptimized() -> Iterator[None]:
    """Runs functions without Grappler, which takes seconds to save milliseconds of one image."""
    import tensorflow as tf

    options = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        before = options.get("disable_meta_optimizer", False)
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before})


def _is_number(output: Any) -> bool:
    value = output.numpy().ravel()
    return bool(value.size == 1 and value[0] == value[0])
