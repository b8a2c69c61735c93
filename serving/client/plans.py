"""Plans of requests: how inputs are split into requests and their results are joined.

They are independent of a channel, so that the blocking and the asyncio client share them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Generic, TypeVar, cast

import numpy as np
from grpc import StatusCode

from keras_ae import contract as c
from keras_ae.errors import InvalidRequestError

from ..wire.protos import Example
from .failures import TransportError, unreadable
from .images import (
    Arrays,
    Images,
    Item,
    decode_png,
    measure,
    split_into_batches,
    to_arrays,
    to_items,
)
from .outgoing import NOTE, Outgoing
from .results import Metadata, Reconstructions, Scores, VersionStatus
from .transports.base import METADATA, PREDICT, STATUS, Call

T = TypeVar("T")
Outputs = dict[str, Any]
"""Output name -> a row for each image of a request."""
Part = tuple[list[int], Outputs]
"""The indices of the images of a request, and its outputs."""

_JSON_GROWTH = 4
"""Estimated size of a tensor as JSON, relative to its bytes: a uint8 is 2 to 4 characters."""
_DECODED_BYTES = 256
"""Estimated bytes that a latent position is decoded to; 192 at stride 8 in RGB, 768 at 16."""
_PIXEL_SCORES = (c.MSE, c.PSNR, c.SSIM, c.PERCENTILE)
_SCORES = (*_PIXEL_SCORES, c.MS_SSIM, c.FLOOR_PSNR)


@dataclass(frozen=True)
class Exchange:
    """A request: `build` makes its call; `parse` reads the result or raises TransportError."""

    build: Callable[[], Call]
    parse: Callable[[Any], Any]


@dataclass(frozen=True)
class RequestPlan(Generic[T]):
    """Independent requests, and the function that joins their parsed responses to one result."""

    exchanges: list[Exchange]
    join: Callable[[list[Any]], T]


@dataclass(frozen=True)
class Plans:
    """Makes a plan for each method of a client.

    A request never has more pixels than a server accepts, unless it has only one image.

    Attributes:
        rest: whether tensors are sent as JSON.
        max_bytes: approximate size of the largest request, unless it has only one image.
        max_images: number of images of the largest request.
        white: level of floats and 32-bit integers that becomes 255; see `prepare.prepare`.
    """

    rest: bool
    max_bytes: int
    max_images: int
    white: float | None = None

    def reconstruct(self, images: Images, as_png: bool = False) -> RequestPlan[Reconstructions]:
        """Plans requests of arrays of one shape, and of encoded images of any sizes."""
        items, is_one_array = to_items(images)
        send_tensors = not (self.rest or as_png)
        exchanges: list[Exchange] = []
        # A request has arrays of one shape, or encoded images.
        for shape, group in _group_by(
            item.shape if send_tensors and isinstance(item, np.ndarray) else None for item in items
        ).items():
            max_pixels = c.MAX_REQUEST_PIXELS if shape is None else c.MAX_PIXELS
            for rows in self._split(items, group, max_pixels):
                batch = [items[row] for row in rows]
                if shape is None:
                    exchanges.append(_png_exchange(rows, Outgoing(batch, self.white), as_png))
                else:
                    exchanges.append(_tensor_exchange(rows, cast(list[np.ndarray], batch)))
        as_array = is_one_array and not as_png
        return RequestPlan(
            exchanges, lambda parts: _join_reconstructions(len(items), parts, as_array)
        )

    def score(self, images: Images) -> RequestPlan[Scores]:
        """Plans requests of tf.Examples; arrays are encoded as PNG."""
        items, _ = to_items(images)

        def exchange(rows: list[int]) -> Exchange:
            outgoing = Outgoing([items[row] for row in rows], self.white)

            def build() -> Call:
                examples = [_to_example(data) for data in outgoing.encode()]
                return Call(PREDICT, c.SCORE, {c.EXAMPLES: examples})

            def parse(outputs: Outputs) -> Part:
                return rows, outgoing.annotate(
                    _select_scores(outputs, (*_SCORES, c.STATUS), len(rows))
                )

            return Exchange(build, parse)

        batches = self._split(items, range(len(items)), c.MAX_REQUEST_PIXELS)
        return RequestPlan(
            [exchange(rows) for rows in batches], lambda parts: _join_scores(len(items), parts)
        )

    def encode(self, images: Arrays) -> RequestPlan[Arrays]:
        """Plans requests that encode images of one shape each."""
        items, is_one_array = to_arrays(images)
        return self._map(items, is_one_array, c.ENCODE, c.IMAGES, c.LATENTS)

    def decode(self, latents: Arrays) -> RequestPlan[Arrays]:
        """Plans requests that decode latents of one shape each."""
        is_one_array = isinstance(latents, np.ndarray)
        arrays = [latents] if isinstance(latents, np.ndarray) else list(latents)
        for array in arrays:
            if (
                array.dtype != np.float32
                or array.ndim != (4 if is_one_array else 3)
                or 0 in array.shape[-3:]
            ):
                raise InvalidRequestError(
                    "expected latents of float32 [N, h, w, c], or a list of [h, w, c]; got "
                    f"{array.dtype} {list(array.shape)}"
                )
        items = list(latents) if is_one_array else arrays
        position_bytes = max((array.itemsize * array.shape[-1] for array in arrays), default=1)
        growth = max(1, _DECODED_BYTES // position_bytes)
        return self._map(items, is_one_array, c.DECODE, c.LATENTS, c.IMAGES, growth)

    def metadata(self) -> RequestPlan[Metadata]:
        """Plans the request for the model's signatures."""
        return _plan_one(Call(METADATA))

    def status(self) -> RequestPlan[list[VersionStatus]]:
        """Plans the request for the states of the model's versions."""
        return _plan_one(Call(STATUS))

    def predict(
        self, signature: str, inputs: dict[str, np.ndarray | Sequence[bytes]]
    ) -> RequestPlan[dict[str, np.ndarray]]:
        """Plans one request that calls a signature."""
        return _plan_one(Call(PREDICT, signature, inputs))

    def _split(
        self, items: Sequence[Item], rows: Sequence[int], max_pixels: int, growth: int = 1
    ) -> list[list[int]]:
        measured = (measure(items[row]) for row in rows)
        sizes = ((size * growth, pixels) for size, pixels in measured)
        batches = split_into_batches(sizes, self.max_bytes, max_pixels, self.max_images)
        return [[rows[index] for index in batch] for batch in batches]

    def _map(
        self,
        items: list[np.ndarray],
        as_array: bool,
        signature: str,
        input_name: str,
        output_name: str,
        growth: int = 1,
    ) -> RequestPlan[Any]:
        """Plans requests that map arrays to arrays.

        Args:
            items: an array for each image.
            as_array: whether the result is one array instead of a list.
            signature: name of the signature.
            input_name, output_name: names of its input and of the output that is returned.
            growth: estimate of the bytes that are sent or received for each byte of an array.
        """

        def exchange(rows: list[int]) -> Exchange:
            return Exchange(
                lambda: Call(PREDICT, signature, {input_name: np.stack([items[r] for r in rows])}),
                lambda outputs: (rows, _select(outputs, (output_name,), len(rows))),
            )

        growth *= _JSON_GROWTH if self.rest else 1
        exchanges = [
            exchange(rows)
            for group in _group_by(item.shape for item in items).values()
            for rows in self._split(items, group, c.MAX_PIXELS, growth)
        ]

        def join(parts: list[Part]) -> Any:
            arrays = _join_rows(len(items), parts, output_name)
            return np.stack(arrays) if as_array and arrays else arrays

        return RequestPlan(exchanges, join)


def _plan_one(call: Call) -> RequestPlan[Any]:
    return RequestPlan([Exchange(lambda: call, lambda response: response)], lambda parts: parts[0])


def _group_by(keys: Iterable[T]) -> dict[T, list[int]]:
    """Returns key -> indices, in the order of the first index of each key."""
    groups: dict[T, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return groups


def _tensor_exchange(rows: list[int], images: list[np.ndarray]) -> Exchange:
    def parse(outputs: Outputs) -> Part:
        outputs = _select_scores(outputs, (c.RECONSTRUCTIONS, *_PIXEL_SCORES), len(rows))
        # Copies: arrays that are read from a response are read-only.
        reconstructions = [np.array(image) for image in outputs[c.RECONSTRUCTIONS]]
        _check_shapes(images, reconstructions)
        blank = [b""] * len(rows)
        return rows, {**outputs, c.RECONSTRUCTIONS: reconstructions, c.STATUS: blank, NOTE: blank}

    return Exchange(lambda: Call(PREDICT, c.RECONSTRUCT, {c.IMAGES: np.stack(images)}), parse)


def _png_exchange(rows: list[int], outgoing: Outgoing, as_png: bool) -> Exchange:
    def parse(outputs: Outputs) -> Part:
        names = (c.RECONSTRUCTION_PNG_BYTES, *_PIXEL_SCORES, c.STATUS)
        outputs = outgoing.annotate(_select_scores(outputs, names, len(rows)))
        files = outputs[c.RECONSTRUCTION_PNG_BYTES]
        if as_png:
            return rows, {**outputs, c.RECONSTRUCTIONS: files}
        reconstructions = [_decode_reconstruction(data) for data in files]
        is_usable = [not status for status in outputs[c.STATUS]]
        _check_shapes(compress(outgoing.items, is_usable), compress(reconstructions, is_usable))
        return rows, {**outputs, c.RECONSTRUCTIONS: reconstructions}

    def build() -> Call:
        return Call(PREDICT, c.SERVING_DEFAULT, {c.IMAGE_BYTES: outgoing.encode()})

    return Exchange(build, parse)


def _decode_reconstruction(png: bytes) -> np.ndarray:
    try:
        return decode_png(png) if png else np.zeros((0, 0, 3), np.uint8)
    except ValueError as error:
        raise unreadable(error) from error


def _check_shapes(images: Iterable[Item], reconstructions: Iterable[np.ndarray]) -> None:
    """Raises TransportError if the reconstruction of an array has another shape.

    A grey model reconstructs an RGB PNG as grey, so the number of channels can differ. For an image
    file that is accepted; for an array it is a mistake.
    """
    for image, reconstruction in zip(images, reconstructions):
        if isinstance(image, np.ndarray) and image.shape != reconstruction.shape:
            raise TransportError(
                StatusCode.INVALID_ARGUMENT,
                f"the model returns {list(reconstruction.shape)} for {list(image.shape)}: send "
                "arrays with as many channels as the model has",
            )


def _to_example(data: bytes) -> bytes:
    example = Example()
    example.features.feature[c.IMAGE_ENCODED].bytes_list.value.append(data)
    return example.SerializeToString()


def _select(outputs: Outputs, names: Sequence[str], count: int) -> Outputs:
    """Returns the outputs of these names if each one has `count` rows; else raises."""
    for name in names:
        shape = np.shape(outputs[name]) if name in outputs else None
        if shape is None or shape[:1] != (count,):
            received = f"only {sorted(outputs)}" if shape is None else f"the shape {list(shape)}"
            raise unreadable(f"expected {count} rows of {name!r}; got {received}")
    return {name: outputs[name] for name in names}


def _select_scores(outputs: Outputs, names: Sequence[str], count: int) -> Outputs:
    """Like `_select`, with the number of val images: 0 for a model that does not tell it."""
    outputs = {c.VAL_IMAGES: [0] * count, **outputs}
    return _select(outputs, (*names, c.VAL_IMAGES), count)


def _join_rows(count: int, parts: list[Part], name: str) -> list[Any]:
    """Returns an output's rows of all requests, in the order of the images."""
    rows: list[Any] = [None] * count
    for indices, outputs in parts:
        for index, row in zip(indices, outputs[name]):
            rows[index] = row
    return rows


def _join_scalars(count: int, parts: list[Part], names: Sequence[str]) -> dict[str, np.ndarray]:
    scores = {name: np.asarray(_join_rows(count, parts, name), np.float32) for name in names}
    return {**scores, c.VAL_IMAGES: np.asarray(_join_rows(count, parts, c.VAL_IMAGES), np.int64)}


def _join_texts(count: int, parts: list[Part], name: str) -> tuple[str, ...]:
    texts = _join_rows(count, parts, name)
    return tuple(text.decode(errors="replace") for text in texts)


def _join_reconstructions(count: int, parts: list[Part], as_array: bool) -> Reconstructions:
    images = _join_rows(count, parts, c.RECONSTRUCTIONS)
    have_one_shape = len({np.shape(image) for image in images}) == 1
    return Reconstructions(
        reconstructions=np.stack(images) if as_array and have_one_shape else images,
        status=_join_texts(count, parts, c.STATUS),
        notes=_join_texts(count, parts, NOTE),
        **_join_scalars(count, parts, _PIXEL_SCORES),
    )


def _join_scores(count: int, parts: list[Part]) -> Scores:
    return Scores(
        status=_join_texts(count, parts, c.STATUS),
        notes=_join_texts(count, parts, NOTE),
        **_join_scalars(count, parts, _SCORES),
    )
