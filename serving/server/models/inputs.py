"""What a PredictRequest asks for, checked against the signature before TensorFlow sees any of it.

TensorFlow's kernels end the whole process on some shapes, and a tensor of a few bytes may declare
a shape of terabytes.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ae import contract
from serving.server.core import invalid
from serving.wire.protos import DataType
from serving.wire.tensors import dtype_name, shape_of, to_array

MAX_TENSOR_BYTES = 2**30
"""Largest input as an array."""
MAX_STRINGS = 1024
"""In an input; each becomes an object, and a value of a few bytes may stand for all of them."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """A request that may be run.

    Attributes:
        signature: name of the signature.
        arrays: input name -> array of the signature's dtype and rank.
        outputs: names of the outputs that are asked for.
        rows: size of the first dimension; None if the inputs share none, so that they cannot be
            part of a batch.
        pixels: in all images of the request; 0 if it holds none.
        has_status: whether the signature gives the status of each row, asked for or not.
    """

    signature: str
    arrays: dict[str, np.ndarray]
    outputs: tuple[str, ...]
    rows: int | None
    pixels: int
    has_status: bool = False

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes beyond the first dimension, which the members of a batch share."""
        return tuple(self.arrays[name].shape[1:] for name in sorted(self.arrays))


def check(name: str, signature: Any, request: Any, pixels_per_position: int) -> Inputs:
    """Checks and decodes a request.

    Args:
        name: of the signature.
        signature: SignatureDef.
        request: PredictRequest.
        pixels_per_position: pixels that one position of the latents becomes.

    Raises:
        RequestError: INVALID_ARGUMENT; says what was expected and what came.
    """
    _check_names(signature.inputs, request.inputs)
    outputs = _outputs(signature.outputs, request.output_filter)
    arrays: dict[str, np.ndarray] = {}
    pixels = 0
    for alias, info in signature.inputs.items():
        proto = request.inputs[alias]
        sizes = _check_tensor(alias, info, proto)
        pixels += _pixels(alias, sizes, pixels_per_position)
        try:
            arrays[alias] = to_array(proto, MAX_TENSOR_BYTES)
        except ValueError as error:
            raise invalid(f"tensor parsing error: {alias}: {error}") from error
    has_status = contract.STATUS in signature.outputs
    return Inputs(name, arrays, outputs, _rows(signature, arrays), pixels, has_status)


def _check_names(expected: Mapping[str, Any], sent: Mapping[str, Any]) -> None:
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


def _outputs(known: Mapping[str, Any], asked: Iterable[str]) -> tuple[str, ...]:
    seen: list[str] = []
    for alias in asked:
        if alias not in known:
            raise invalid(
                f"output tensor alias not found in signature: {alias[:200]} "
                f"Outputs expected to be in the set {_set(known)}."
            )
        if alias in seen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen.append(alias)
    return tuple(seen or sorted(known))


def _check_tensor(alias: str, info: Any, proto: Any) -> tuple[int, ...]:
    if proto.dtype == DataType.DT_INVALID:
        raise invalid(f"tensor parsing error: {alias}: it has no dtype")
    if proto.dtype != info.dtype:
        raise invalid(
            f"input {alias} must be {dtype_name(info.dtype)}; got {dtype_name(proto.dtype)}"
        )
    try:
        sizes = shape_of(proto)
    except ValueError as error:
        raise invalid(f"tensor parsing error: {alias}: {error}") from error
    if not info.tensor_shape.unknown_rank:
        _check_shape(alias, [dim.size for dim in info.tensor_shape.dim], sizes)
    if proto.dtype == DataType.DT_STRING:
        _check_strings(alias, sizes, len(proto.string_val))
    return sizes


def _check_shape(alias: str, known: list[int], sizes: tuple[int, ...]) -> None:
    expected = ", ".join("?" if size < 0 else str(size) for size in known)
    if len(sizes) != len(known) or any(k >= 0 and k != s for k, s in zip(known, sizes)):
        raise invalid(f"input {alias} must have the shape [{expected}]; got {list(sizes)[:16]}")
    if 0 in sizes:
        raise invalid(f"input {alias} of shape {list(sizes)} is empty; sizes must be 1 or more")


def _check_strings(alias: str, sizes: tuple[int, ...], sent: int) -> None:
    count = math.prod(sizes)
    if count > MAX_STRINGS:
        raise invalid(
            f"input {alias} of shape {list(sizes)[:16]} has {count:,} strings; at most "
            f"{MAX_STRINGS:,} are allowed: send fewer at once"
        )
    if sent != count:
        raise invalid(
            f"tensor parsing error: {alias}: the shape {list(sizes)[:16]} needs {count:,} strings "
            f"in string_val; got {sent:,}"
        )


def _pixels(alias: str, sizes: tuple[int, ...], pixels_per_position: int) -> int:
    if alias not in (contract.IMAGES, contract.LATENTS) or len(sizes) != 4:
        return 0
    each = sizes[1] * sizes[2] * (pixels_per_position if alias == contract.LATENTS else 1)
    if each > contract.MAX_PIXELS:
        raise invalid(
            f"an image of input {alias} has {each:,} pixels; at most {contract.MAX_PIXELS:,} are "
            "allowed"
        )
    if sizes[0] * each > contract.MAX_PIXELS:
        raise invalid(
            f"the {sizes[0]:,} images of input {alias} have {sizes[0] * each:,} pixels together; "
            f"at most {contract.MAX_PIXELS:,} are allowed: send fewer at once"
        )
    return sizes[0] * each


def _rows(signature: Any, arrays: Mapping[str, np.ndarray]) -> int | None:
    infos = (*signature.inputs.values(), *signature.outputs.values())
    shapes = [info.tensor_shape for info in infos]
    if not all(s.unknown_rank or (s.dim and s.dim[0].size < 0) for s in shapes):
        return None
    sizes = {array.shape[:1] for array in arrays.values()}
    return sizes.pop()[0] if len(sizes) == 1 and () not in sizes else None
