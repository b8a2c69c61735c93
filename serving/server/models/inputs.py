"""The checks of a PredictRequest against its signature, before its tensors reach TensorFlow.

TensorFlow's kernels abort the whole process on some shapes, and a tensor of a few bytes can declare
a shape of terabytes.
"""

import contextlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError

from keras_ae import contract
from keras_ae.datasets.images.headers import read_header
from keras_ae.errors import DataError
from serving.server.errors import invalid
from serving.wire.protos import (
    DataType,
    Example,
    PredictRequest,
    SignatureDef,
    TensorInfo,
    TensorProto,
)
from serving.wire.tensors import dtype_name, shape_of, to_array

MAX_TENSOR_BYTES = 2**30
"""Size of the largest input as an array."""
LARGE_PIXELS = 4_000_000
"""Requests with more pixels wait for each other, and smaller ones overtake them."""
MAX_STRINGS = 1024
"""Limit of the strings in an input: a message of a few bytes can declare any number of them."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """The decoded inputs of a checked request.

    Attributes:
        signature: name of the signature.
        arrays: input name -> array of the signature's dtype and rank.
        outputs: names of the requested outputs.
        rows: size of the first dimension; 0 if the inputs have no common one, so that the request
            cannot be part of a batch.
        pixels: number of pixels of all images in the request; 0 if it has no image tensors.
        has_status: whether the signature has the output `status`, requested or not.
        is_large: whether its images, encoded ones by their headers, have more than `LARGE_PIXELS`
            together.
    """

    signature: str
    arrays: dict[str, np.ndarray]
    outputs: tuple[str, ...]
    rows: int
    pixels: int
    has_status: bool = False
    is_large: bool = False

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes without the first dimension, which are the same in all requests of a batch."""
        return tuple(self.arrays[name].shape[1:] for name in sorted(self.arrays))


def check(
    name: str, signature: SignatureDef, request: PredictRequest, pixels_per_position: int
) -> Inputs:
    """Checks and decodes a request for the signature of a name.

    A position of the latents is decoded to `pixels_per_position`. Raises RequestError.
    """
    _check_names(signature.inputs, request.inputs)
    outputs = _check_outputs(signature.outputs, request.output_filter)
    arrays: dict[str, np.ndarray] = {}
    pixels = 0
    for alias, info in signature.inputs.items():
        proto = request.inputs[alias]
        try:
            shape = _check_tensor(alias, info, proto)
            pixels += _count_pixels(alias, shape, pixels_per_position)
            arrays[alias] = to_array(proto, MAX_TENSOR_BYTES)
        except ValueError as error:
            raise invalid(f"tensor parsing error: {alias}: {error}") from error
    rows, has_status = _count_rows(signature, arrays), contract.STATUS in signature.outputs
    is_large = pixels > LARGE_PIXELS or _count_encoded_pixels(arrays) > LARGE_PIXELS
    return Inputs(name, arrays, outputs, rows, pixels, has_status, is_large)


def _check_names(expected: Mapping[str, TensorInfo], sent: Mapping[str, TensorProto]) -> None:
    extra, missing = sorted(set(sent) - set(expected)), sorted(set(expected) - set(sent))
    if len(sent) != len(expected):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({_set(sent)}) != len({_set(expected)}). "
            f"Sent extra: {_set(extra)}. Missing but required: {_set(missing)}."
        )
    if missing:
        raise invalid(
            f"input tensor alias not found in request: {missing[0]}. Inputs expected to be in the "
            f"set {_set(expected)}; got {_set(sent)}."
        )


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(name[:100] for name in names)) + "}"


def _check_outputs(
    available: Mapping[str, TensorInfo], requested: Iterable[str]
) -> tuple[str, ...]:
    outputs = tuple(requested)
    for i, alias in enumerate(outputs):
        if alias not in available:
            raise invalid(
                f"output tensor alias not found in signature: {alias[:200]} "
                f"Outputs expected to be in the set {_set(available)}."
            )
        if alias in outputs[:i]:
            raise invalid(f"duplicate output tensor alias: {alias}")
    return outputs or tuple(sorted(available))


_IMAGE_INPUTS = (contract.IMAGES, contract.LATENTS, contract.IMAGE_BYTES, contract.EXAMPLES)
"""Inputs whose shapes are checked. Others are left to TensorFlow, as TensorFlow Serving does: it
takes shapes that a signature does not declare."""


def _check_tensor(alias: str, info: TensorInfo, proto: TensorProto) -> tuple[int, ...]:
    if proto.dtype == DataType.DT_INVALID:
        raise invalid(f"tensor parsing error: {alias}: it has no dtype")
    if proto.dtype != info.dtype:
        raise invalid(
            f"input {alias} must be {dtype_name(info.dtype)}; got {dtype_name(proto.dtype)}"
        )
    shape = shape_of(proto)
    if alias in _IMAGE_INPUTS and not info.tensor_shape.unknown_rank:
        _check_shape(alias, [dim.size for dim in info.tensor_shape.dim], shape)
    if proto.dtype == DataType.DT_STRING:
        _check_strings(alias, shape, None if proto.tensor_content else len(proto.string_val))
    return shape


def _check_shape(alias: str, expected: list[int], shape: tuple[int, ...]) -> None:
    if len(shape) != len(expected) or any(e >= 0 and e != s for e, s in zip(expected, shape)):
        text = ", ".join("?" if size < 0 else str(size) for size in expected)
        raise invalid(f"input {alias} must have the shape [{text}]; got {list(shape)[:16]}")
    if 0 in shape:
        raise invalid(f"input {alias} of shape {list(shape)} is empty; sizes must be 1 or more")


def _check_strings(alias: str, shape: tuple[int, ...], sent_count: int | None) -> None:
    count = math.prod(shape)
    if count > MAX_STRINGS:
        raise invalid(
            f"input {alias} of shape {list(shape)[:16]} has {count:,} strings; at most "
            f"{MAX_STRINGS:,} are allowed: send fewer at once"
        )
    if sent_count not in (None, count):
        raise invalid(
            f"tensor parsing error: {alias}: the shape {list(shape)[:16]} needs {count:,} strings "
            f"in string_val; got {sent_count:,}"
        )


def _count_pixels(alias: str, shape: tuple[int, ...], pixels_per_position: int) -> int:
    if alias not in (contract.IMAGES, contract.LATENTS) or len(shape) != 4:
        return 0
    count, height, width, _ = shape
    image_pixels = height * width * (pixels_per_position if alias == contract.LATENTS else 1)
    if image_pixels > contract.MAX_PIXELS:
        raise invalid(
            f"an image of input {alias} has {image_pixels:,} pixels; at most "
            f"{contract.MAX_PIXELS:,} are allowed"
        )
    if count * image_pixels > contract.MAX_PIXELS:
        raise invalid(
            f"the {count:,} images of input {alias} have {count * image_pixels:,} pixels together; "
            f"at most {contract.MAX_PIXELS:,} are allowed: send fewer at once"
        )
    return count * image_pixels


def _count_encoded_pixels(arrays: Mapping[str, np.ndarray]) -> int:
    """Sums the sizes in the headers of encoded images, up to a little over `LARGE_PIXELS`."""
    strings = {name: array.ravel() for name, array in arrays.items() if array.dtype == object}
    encoded = list(strings.get(contract.IMAGE_BYTES, ()))
    for example in strings.get(contract.EXAMPLES, ()):
        with contextlib.suppress(DecodeError):
            feature = Example.FromString(example).features.feature[contract.IMAGE_ENCODED]
            encoded += feature.bytes_list.value
    pixels = 0
    for data in encoded:
        with contextlib.suppress(DataError):
            header = read_header(data)
            pixels += header.height * header.width
        if pixels > LARGE_PIXELS:
            break
    return pixels


def _count_rows(signature: SignatureDef, arrays: Mapping[str, np.ndarray]) -> int:
    infos = (*signature.inputs.values(), *signature.outputs.values())
    shapes = [info.tensor_shape for info in infos]
    if not all(s.unknown_rank or (s.dim and s.dim[0].size < 0) for s in shapes):
        return 0
    counts = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    return counts.pop() if len(counts) == 1 else 0
