"""What a client asks, and how answers are joined; without a channel, so both clients share it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from grpc import StatusCode

from keras_ae import contract as c
from keras_ae.errors import InvalidRequestError

from ..wire.protos import Example
from .failures import TransportError, unreadable
from .images import (
    Images,
    Item,
    area,
    chunks,
    collect,
    collect_arrays,
    decode_png,
    encoded,
    weight,
)
from .results import Metadata, Reconstructions, Scores, VersionStatus
from .transports.base import METADATA, PREDICT, STATUS, Call

T = TypeVar("T")
_JSON_GROWTH = 4
_PIXEL_GROWTH = 8


@dataclass(frozen=True)
class Exchange:
    """One request: `build` makes its call, `parse` reads the answer, or raises TransportError."""

    build: Callable[[], Call]
    parse: Callable[[Any], Any]


@dataclass(frozen=True)
class Plan(Generic[T]):
    """Requests that do not depend on each other, and what their parsed answers make together."""

    exchanges: list[Exchange]
    join: Callable[[list[Any]], T]


@dataclass(frozen=True)
class Plans:
    """Makes a plan of each thing that a caller may ask.

    Attributes:
        rest: whether tensors travel as JSON.
        max_bytes: of a request, about; an image alone may be larger. Neither has a request more
            pixels than a server takes.
        max_images: of a request.
    """

    rest: bool
    max_bytes: int
    max_images: int

    def reconstruct(self, images: Images, as_png: bool = False) -> Plan[Reconstructions]:
        """Arrays of one shape share requests, and so do encoded images of any sizes."""
        items, together = collect(images)

        def kind(item: Item) -> tuple[int, ...] | None:
            """What images of one request have in common: a shape, or that they are encoded."""
            tensor = isinstance(item, np.ndarray) and not (self.rest or as_png)
            return np.shape(item) if tensor else None  # type: ignore[arg-type]

        def most(group: list[int]) -> int:
            return c.MAX_REQUEST_PIXELS if kind(items[group[0]]) is None else c.MAX_PIXELS

        def exchange(rows: list[int]) -> Exchange:
            chosen = [items[row] for row in rows]
            if kind(chosen[0]) is None:
                return _png_exchange(rows, chosen, as_png)
            return _tensor_exchange(rows, chosen)

        groups = _groups(kind(item) for item in items)
        exchanges = [
            exchange(rows) for group in groups for rows in self._chunks(items, group, most(group))
        ]
        together = together and not as_png
        return Plan(exchanges, lambda parts: _reconstructions(len(items), parts, together))

    def score(self, images: Images) -> Plan[Scores]:
        """Images as tf.Examples; arrays are encoded as PNG."""
        items, _ = collect(images)

        def exchange(rows: list[int]) -> Exchange:
            def build() -> Call:
                examples = [_example(encoded(items[row])) for row in rows]
                return Call(PREDICT, c.SCORE, {c.EXAMPLES: examples})

            return Exchange(build, lambda answer: (rows, _checked(answer, _SCORES, len(rows))))

        cut = self._chunks(items, range(len(items)), c.MAX_REQUEST_PIXELS)
        return Plan([exchange(rows) for rows in cut], lambda parts: _scores(len(items), parts))

    def encode(self, images: np.ndarray | Sequence[np.ndarray]) -> Plan[Any]:
        """Arrays to latents."""
        items, together = collect_arrays(images)
        return self._map(items, together, c.ENCODE, c.IMAGES, c.LATENTS)

    def decode(self, latents: np.ndarray | Sequence[np.ndarray]) -> Plan[Any]:
        """Latents to arrays."""
        together = isinstance(latents, np.ndarray)
        whole = [latents] if isinstance(latents, np.ndarray) else [one[None] for one in latents]
        for array in whole:
            if array.dtype != np.float32 or array.ndim != 4 or 0 in array.shape[1:]:
                raise InvalidRequestError(
                    "expected latents of float32 [N, h, w, c], or a list of [h, w, c]; got "
                    f"{array.dtype} {list(array.shape if together else array.shape[1:])}"
                )
        items = [item for array in whole for item in array]
        return self._map(items, together, c.DECODE, c.LATENTS, c.IMAGES, _PIXEL_GROWTH)

    def metadata(self) -> Plan[Metadata]:
        """The signatures of the model."""
        return _single(Call(METADATA))

    def status(self) -> Plan[list[VersionStatus]]:
        """The versions of the model."""
        return _single(Call(STATUS))

    def predict(
        self, signature: str, inputs: dict[str, np.ndarray | Sequence[bytes]]
    ) -> Plan[dict[str, np.ndarray]]:
        """Any signature, as it is, in one request."""
        return _single(Call(PREDICT, signature, inputs))

    def _chunks(
        self, items: Sequence[Item], rows: Sequence[int], max_pixels: int, growth: int = 1
    ) -> list[list[int]]:
        sizes = ((weight(items[row]) * growth, area(items[row])) for row in rows)
        cut = chunks(sizes, self.max_bytes, max_pixels, self.max_images)
        return [[rows[index] for index in one] for one in cut]

    def _map(
        self,
        items: list[np.ndarray],
        together: bool,
        signature: str,
        source: str,
        result: str,
        growth: int = 1,
    ) -> Plan[Any]:
        def exchange(rows: list[int]) -> Exchange:
            return Exchange(
                lambda: Call(PREDICT, signature, {source: np.stack([items[r] for r in rows])}),
                lambda answer: (rows, _checked(answer, (result,), len(rows))[result]),
            )

        growth *= _JSON_GROWTH if self.rest else 1
        exchanges = [
            exchange(rows)
            for group in _groups(item.shape for item in items)
            for rows in self._chunks(items, group, c.MAX_PIXELS, growth)
        ]
        return Plan(exchanges, lambda parts: _ordered(len(items), parts, together))


_PIXEL_SCORES = (c.MSE, c.PSNR, c.SSIM, c.PERCENTILE)
_SCORES = (*_PIXEL_SCORES, c.MS_SSIM, c.FLOOR_PSNR, c.STATUS)


def _single(call: Call) -> Plan[Any]:
    return Plan([Exchange(lambda: call, lambda answer: answer)], lambda parts: parts[0])


def _groups(kinds: Iterable[Any]) -> list[list[int]]:
    """The indices of each kind, in the order of their first."""
    groups: dict[Any, list[int]] = {}
    for index, kind in enumerate(kinds):
        groups.setdefault(kind, []).append(index)
    return list(groups.values())


def _tensor_exchange(rows: list[int], images: list[Any]) -> Exchange:
    def parse(answer: dict[str, np.ndarray]) -> tuple[list[int], dict[str, Any]]:
        found = _checked(answer, (c.RECONSTRUCTIONS, *_PIXEL_SCORES), len(rows))
        pixels = [np.array(image) for image in found[c.RECONSTRUCTIONS]]
        _same_shapes(images, pixels)
        return rows, {**found, c.RECONSTRUCTIONS: pixels, c.STATUS: [b""] * len(rows)}

    return Exchange(lambda: Call(PREDICT, c.RECONSTRUCT, {c.IMAGES: np.stack(images)}), parse)


def _png_exchange(rows: list[int], images: list[Any], as_png: bool) -> Exchange:
    def parse(answer: dict[str, np.ndarray]) -> tuple[list[int], dict[str, Any]]:
        names = (c.RECONSTRUCTION_PNG_BYTES, *_PIXEL_SCORES, c.STATUS)
        found = _checked(answer, names, len(rows))
        if as_png:
            return rows, {**found, c.RECONSTRUCTIONS: found[c.RECONSTRUCTION_PNG_BYTES]}
        pixels = [_pixels(data) for data in found[c.RECONSTRUCTION_PNG_BYTES]]
        good = [not status for status in found[c.STATUS]]
        _same_shapes(
            [image for image, is_good in zip(images, good) if is_good],
            [image for image, is_good in zip(pixels, good) if is_good],
        )
        return rows, {**found, c.RECONSTRUCTIONS: pixels}

    def build() -> Call:
        return Call(PREDICT, c.SERVING_DEFAULT, {c.IMAGE_BYTES: [encoded(i) for i in images]})

    return Exchange(build, parse)


def _pixels(png: bytes) -> np.ndarray:
    try:
        return decode_png(png) if png else np.zeros((0, 0, 3), np.uint8)
    except ValueError as error:
        raise unreadable(error) from error


def _same_shapes(sent: list[Any], received: list[np.ndarray]) -> None:
    """A grey model makes grey of an RGB PNG; whoever sent an array meant its channels."""
    for one, other in zip(sent, received):
        if isinstance(one, np.ndarray) and one.shape != other.shape:
            raise TransportError(
                StatusCode.INVALID_ARGUMENT,
                f"the model gives {list(other.shape)} for {list(one.shape)}: send arrays with as "
                "many channels as the model has",
            )


def _example(data: bytes) -> bytes:
    example = Example()
    example.features.feature[c.IMAGE_ENCODED].bytes_list.value.append(data)
    return bytes(example.SerializeToString())


def _checked(
    answer: dict[str, np.ndarray], names: Sequence[str], count: int
) -> dict[str, np.ndarray]:
    """The outputs by name, if each is there for each image."""
    for name in names:
        shape = np.shape(answer[name]) if name in answer else None
        if shape is None or shape[:1] != (count,):
            came = f"only {sorted(answer)}" if shape is None else f"the shape {list(shape)}"
            raise unreadable(f"expected {count} rows of {name!r}; got {came}")
    return {name: answer[name] for name in names}


def _ordered(count: int, parts: list[tuple[list[int], Any]], together: bool) -> Any:
    """One row per image: an array if they came as one, else a list."""
    rows: list[Any] = [None] * count
    for indices, values in parts:
        for index, value in zip(indices, values):
            rows[index] = value
    return np.stack(rows) if together and rows else rows


def _joined(count: int, parts: list[tuple[list[int], dict[str, Any]]], name: str) -> np.ndarray:
    rows = _ordered(count, [(indices, found[name]) for indices, found in parts], False)
    return np.asarray(rows, np.float32)


def _statuses(count: int, parts: list[tuple[list[int], dict[str, Any]]]) -> tuple[str, ...]:
    rows = _ordered(count, [(indices, found[c.STATUS]) for indices, found in parts], False)
    return tuple(status.decode(errors="replace") for status in rows)


def _reconstructions(count: int, parts: list[Any], together: bool) -> Reconstructions:
    images = [(rows, found[c.RECONSTRUCTIONS]) for rows, found in parts]
    scores = {name: _joined(count, parts, name) for name in _PIXEL_SCORES}
    alike = {np.shape(image) for _, group in images for image in group}
    return Reconstructions(
        reconstructions=_ordered(count, images, together and len(alike) == 1),
        status=_statuses(count, parts),
        **scores,
    )


def _scores(count: int, parts: list[Any]) -> Scores:
    names = [name for name in _SCORES if name != c.STATUS]
    scores = {name: _joined(count, parts, name) for name in names}
    return Scores(status=_statuses(count, parts), **scores)
