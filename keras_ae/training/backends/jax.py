"""The compiled inner loop on JAX."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ae.concurrency import prefetch
from keras_ae.datasets.tiles import Tiles, TileSource
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.models.layers import to_float
from keras_ae.training.backends.position import Position, Run
from keras_ae.types import Tensor

DEVICE_SHARE = 0.5
"""Share of a device's memory that the training images may take."""
PIXELS_IN_A_CALL = 2**25
"""That are trained on in one call: an epoch of 8,192 tiles of 64x64, a second or less on a GPU."""


def compile_epochs(
    model: ConvAutoencoder,
    optimizer: keras.Optimizer,
    average: list[keras.Variable],
    decay: Callable[[Tensor], Tensor],
    tiles: TileSource,
) -> tuple[Run, str]:
    """Compiles the training step, or on an accelerator a whole epoch.

    Takes and gives what `compile_epochs` does on TensorFlow. Where the images fit on an accelerator
    they stay there, uint8, and each epoch is one call, or some if it is long: tiles are cut and the
    steps are made on the device. With `keras.distribution.DataParallel` set, each device takes its
    part of every batch whose size their number divides, and a whole one of any other.
    """
    import jax

    held = [model.trainable_variables, optimizer.variables, average]

    def loss_of(weights: Any, frozen: Any, batch: Any) -> Any:
        images = to_float(batch)
        outputs, _ = model.stateless_call(weights, frozen, images, training=True)
        return ops.mean(ops.square(outputs - images))

    def in_parts(weights: Any, frozen: Any, batch: Any, micro_batch_size: int) -> Any:
        """The loss and the gradients of a batch, so many tiles at a time, one after the other."""

        def add(sums: Any, part: Any) -> Any:
            found = jax.value_and_grad(loss_of)(weights, frozen, part)
            share = len(part) / len(batch)
            return jax.tree.map(lambda s, f: s + share * f, sums, found), None

        bound = len(batch) // micro_batch_size * micro_batch_size
        sums = jax.tree.map(ops.zeros_like, (ops.zeros(()), weights))
        whole = batch[:bound].reshape(-1, micro_batch_size, *batch.shape[1:])
        sums, _ = jax.lax.scan(add, sums, whole)
        return add(sums, batch[bound:])[0] if bound < len(batch) else sums

    def step(state: Any, frozen: Any, batch: Any, micro_batch_size: int) -> Any:
        weights, slots, means = state
        batch = _spread(batch)
        if micro_batch_size < len(batch):
            loss, gradients = in_parts(weights, frozen, batch, micro_batch_size)
        else:
            loss, gradients = jax.value_and_grad(loss_of)(weights, frozen, batch)
        weights, slots = optimizer.stateless_apply(slots, gradients, weights)
        weight = 1.0 - decay(ops.cast(slots[0], "float32"))
        means = [mean + weight * (value - mean) for mean, value in zip(means, weights)]
        return _replicate([weights, slots, means]), loss * len(batch)

    if isinstance(tiles, Tiles) and _fits(tiles):
        train, placement = _on_device(step, tiles), "on the device"
    else:
        train, placement = _in_batches(step, tiles), tiles.placement

    def run(
        epoch: int, at: Position, micro_batch_size: int, pause: Callable[[], bool]
    ) -> Iterator[Position]:
        # Donated to the steps: what is in the variables is gone after the first one.
        state = [[[variable.value for variable in group] for group in held]]
        frozen = [variable.value for variable in model.non_trainable_variables]

        def put_back() -> None:
            for group, values in zip(held, state[0]):
                for variable, value in zip(group, values):
                    # A call that failed has taken them with it.
                    if not value.is_deleted():
                        variable.assign(value)

        count = len(tiles.batch_sizes)
        try:
            for done, total in train(state, frozen, epoch, at, micro_batch_size):
                if done == count or pause():
                    put_back()
                    yield Position(done, float(total))
        except (Exception, KeyboardInterrupt):
            put_back()
            raise

    return run, placement


def _in_batches(step: Callable[..., Any], tiles: TileSource) -> Callable[..., Any]:
    """An epoch as a call for each batch that the host makes.

    Puts the state back into its list, and yields the batches that are done and the sum of their
    tiles' losses, after each call.
    """
    import jax

    compiled = jax.jit(step, donate_argnums=0, static_argnums=3)

    def train(
        state: list[Any], frozen: Any, epoch: int, at: Position, micro_batch_size: int
    ) -> Iterator[tuple[int, Any]]:
        total = np.float32(at.total)
        for done, batch in enumerate(prefetch(tiles.epoch(epoch, at.batches)), at.batches + 1):
            state[0], loss = compiled(state[0], frozen, batch, micro_batch_size)
            total += loss
            yield done, total

    return train


def _on_device(step: Callable[..., Any], tiles: Tiles) -> Callable[..., Any]:
    """An epoch as one call, or some if it is long, on images that stay on the device; takes and
    gives what `_in_batches` does."""
    import jax

    pixels = _place(np.concatenate([image.reshape(-1, image.shape[2]) for image in tiles.images]))
    sizes = tiles.batch_sizes
    large = sizes.count(sizes[0])
    ends = np.cumsum([0, *sizes])
    together = max(1, PIXELS_IN_A_CALL // (sizes[0] * tiles.size**2))

    @functools.partial(jax.jit, donate_argnums=0, static_argnums=5)
    def train_on(
        state: Any, frozen: Any, pixels: Any, parts: list[Cuts], total: Any, micro_batch_size: int
    ) -> Any:
        def one(carried: Any, at: Cuts) -> Any:
            state, total = carried
            state, loss = step(state, frozen, cut(pixels, at, tiles.size), micro_batch_size)
            return (state, total + loss), None

        for part in parts:
            (state, total), _ = jax.lax.scan(one, (state, total), part)
        return state, total

    def train(
        state: list[Any], frozen: Any, epoch: int, at: Position, micro_batch_size: int
    ) -> Iterator[tuple[int, Any]]:
        every = cuts(tiles, epoch)
        total = _place(np.asarray(at.total, np.float32))
        for first in range(at.batches, len(sizes), together):
            last = min(first + together, len(sizes))
            parts = [
                Cuts(*(v[ends[a] : ends[b]].reshape(b - a, -1, *v.shape[1:]) for v in every))
                for a, b in ((first, min(last, large)), (max(first, large), last))
                if a < b
            ]
            state[0], total = train_on(state[0], frozen, pixels, parts, total, micro_batch_size)
            if last < len(sizes):
                # Calls would queue up, and whoever asks for a pause would wait for all of them.
                total.block_until_ready()
            yield last, total

    return train


class Cuts(NamedTuple):
    """Where each tile lies in the pixels of all images, laid end to end.

    Attributes:
        first: int32 [n], its first pixel.
        width: int32 [n], pixels in a row of its image.
        flips: bool [n, 2], as in `keras_ae.datasets.tiles.Augmentation`.
        turns: bool [n], likewise.
        channels: int32 [n, C], likewise.
    """

    first: Any
    width: Any
    flips: Any
    turns: Any
    channels: Any


def cuts(tiles: Tiles, epoch: int) -> Cuts:
    """The tiles of an epoch in the order of training."""
    sides = np.array([image.shape[:2] for image in tiles.images])
    starts = np.concatenate([[0], np.cumsum(sides.prod(axis=1))[:-1]])
    draws = tiles.draw(epoch)
    order = draws.order
    image = tiles.image_of(order)
    corner = (draws.positions[order] * (sides[image] - tiles.size + 1)).astype(np.int64)
    first = starts[image] + corner[:, 0] * sides[image, 1] + corner[:, 1]
    return Cuts(
        first.astype(np.int32),
        sides[image, 1].astype(np.int32),
        draws.flips[order],
        draws.transposes[order],
        draws.channels[order],
    )


def cut(pixels: Any, at: Cuts, size: int) -> Any:
    """Cuts tiles of `size`, uint8 [n, size, size, C], out of pixels, uint8 [pixels, C]."""
    along = ops.arange(size, dtype="int32")
    rows, columns = (ops.where(at.flips[:, side, None], along[::-1], along) for side in (0, 1))
    rows, columns = rows[:, :, None], columns[:, None, :]
    turned = at.turns[:, None, None]
    rows, columns = (
        ops.where(turned, ops.transpose(rows, (0, 2, 1)), rows),
        ops.where(turned, ops.transpose(columns, (0, 2, 1)), columns),
    )
    place = at.first[:, None, None] + rows * at.width[:, None, None] + columns
    return ops.take_along_axis(pixels[place], at.channels[:, None, None, :], axis=-1)


def is_chief() -> bool:
    """Whether this process is the one that writes files."""
    import jax

    return jax.process_index() == 0


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device has no room for a batch."""
    import jax

    # On the CPU it comes as an internal error.
    words = ("RESOURCE_EXHAUSTED", "Out of memory")
    return isinstance(error, jax.errors.JaxRuntimeError) and any(w in str(error) for w in words)


def _fits(tiles: Tiles) -> bool:
    import jax

    memory = jax.local_devices()[0].memory_stats() or {}
    size = sum(image.nbytes for image in tiles.images)
    pixels = size // tiles.images[0].shape[2]
    return bool(pixels < 2**31 and size <= DEVICE_SHARE * memory.get("bytes_limit", 0))


def _mesh() -> Any:
    distribution = keras.distribution.distribution()
    return None if distribution is None else distribution.device_mesh.backend_mesh


def _place(array: np.ndarray) -> Any:
    """Puts an array on the device, or the same on each of them."""
    import jax

    mesh = _mesh()
    if mesh is None:
        return jax.device_put(array)
    return jax.device_put(array, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def _spread(batch: Any) -> Any:
    """Gives each device its part of a batch."""
    import jax

    mesh = _mesh()
    if mesh is None or len(batch) % mesh.size:
        return batch
    spec = jax.sharding.PartitionSpec(mesh.axis_names[0])
    return jax.lax.with_sharding_constraint(batch, jax.sharding.NamedSharding(mesh, spec))


def _replicate(state: Any) -> Any:
    import jax

    mesh = _mesh()
    if mesh is None:
        return state
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.lax.with_sharding_constraint(state, everywhere)
