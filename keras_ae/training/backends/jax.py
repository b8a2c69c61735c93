"""The compiled training step on JAX, and on an accelerator the compiled epoch."""

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
from keras_ae.training.backends.position import Position, TrainEpoch
from keras_ae.types import Tensor

MAX_MEMORY_SHARE = 0.5
"""Maximum share of a device's memory that the training images may take."""
PIXELS_PER_CALL = 2**25
"""Maximum of pixels trained on in one call: 8,192 tiles of 64x64, a second or less on a GPU."""


def compile_train_epoch(
    model: ConvAutoencoder,
    optimizer: keras.Optimizer,
    ema_weights: list[keras.Variable],
    ema_decay: Callable[[Tensor], Tensor],
    tiles: TileSource,
) -> tuple[TrainEpoch, str]:
    """Compiles the training step, or on an accelerator an epoch; see the one on TensorFlow.

    If the images fit into the memory of an accelerator, they stay there as uint8. Each epoch is
    then one call, or several if it is long: tiles are cropped, and the steps run, on the device.
    With `keras.distribution.DataParallel`, a batch is split evenly between the devices; if their
    number does not divide its size, every device computes the whole batch.
    """
    import jax

    variable_groups = [model.trainable_variables, optimizer.variables, ema_weights]

    def loss_of(weights: Any, frozen: Any, batch: Any) -> Any:
        images = to_float(batch)
        outputs, _ = model.stateless_call(weights, frozen, images, training=True)
        return ops.mean(ops.square(outputs - images))

    def accumulated_gradients(weights: Any, frozen: Any, batch: Any, micro_batch_size: int) -> Any:
        """Computes the loss and the gradients of a batch in micro-batches, one after the other."""

        def add(sums: Any, micro_batch: Any) -> Any:
            values = jax.value_and_grad(loss_of)(weights, frozen, micro_batch)
            share = len(micro_batch) / len(batch)
            return jax.tree.map(lambda s, v: s + share * v, sums, values), None

        whole_end = len(batch) // micro_batch_size * micro_batch_size
        sums = jax.tree.map(ops.zeros_like, (ops.zeros(()), weights))
        micro_batches = batch[:whole_end].reshape(-1, micro_batch_size, *batch.shape[1:])
        sums, _ = jax.lax.scan(add, sums, micro_batches)
        return add(sums, batch[whole_end:])[0] if whole_end < len(batch) else sums

    def step(state: Any, frozen: Any, batch: Any, micro_batch_size: int) -> Any:
        weights, optimizer_state, averages = state
        sharding = _sharding()
        if sharding and len(batch) % sharding.mesh.size == 0:
            batch = jax.lax.with_sharding_constraint(batch, _sharding(split=True))
        if micro_batch_size < len(batch):
            loss, gradients = accumulated_gradients(weights, frozen, batch, micro_batch_size)
        else:
            loss, gradients = jax.value_and_grad(loss_of)(weights, frozen, batch)
        weights, optimizer_state = optimizer.stateless_apply(optimizer_state, gradients, weights)
        # The first variable of a Keras optimizer is its number of steps.
        weight = 1.0 - ema_decay(ops.cast(optimizer_state[0], "float32"))
        averages = [mean + weight * (value - mean) for mean, value in zip(averages, weights)]
        state = [weights, optimizer_state, averages]
        if sharding:
            state = jax.lax.with_sharding_constraint(state, sharding)
        return state, loss * len(batch)

    if isinstance(tiles, Tiles) and _fits(tiles):
        train, placement = _on_device(step, tiles), "on the device"
    else:
        train, placement = _in_batches(step, tiles), tiles.placement

    def train_epoch(
        epoch: int, start: Position, micro_batch_size: int, should_yield: Callable[[], bool]
    ) -> Iterator[Position]:
        # The arrays are donated to the steps: those in the variables are deleted by the first one.
        # `train` replaces the only element of this list after each call.
        state = [[[variable.value for variable in group] for group in variable_groups]]
        frozen = [variable.value for variable in model.non_trainable_variables]

        def update_variables() -> None:
            for group, values in zip(variable_groups, state[0]):
                for variable, value in zip(group, values):
                    # A call that failed may have deleted its arguments.
                    if not value.is_deleted():
                        variable.assign(value)

        try:
            for batches_done, loss_sum in train(state, frozen, epoch, start, micro_batch_size):
                if batches_done == len(tiles.batch_sizes) or should_yield():
                    update_variables()
                    yield Position(batches_done, float(loss_sum))
        except (Exception, KeyboardInterrupt):
            update_variables()
            raise

    return train_epoch, placement


def _in_batches(step: Callable[..., Any], tiles: TileSource) -> Callable[..., Any]:
    """Returns a generator function that trains an epoch with a call for each batch of the host.

    After each call it replaces the state in its list, and yields batches done and sum of losses.
    """
    import jax

    compiled = jax.jit(step, donate_argnums=0, static_argnums=3)

    def train(
        state: list[Any], frozen: Any, epoch: int, start: Position, micro_batch_size: int
    ) -> Iterator[tuple[int, Any]]:
        loss_sum = np.float32(start.loss_sum)
        batches = prefetch(tiles.epoch(epoch, start.batches_done))
        for batches_done, batch in enumerate(batches, start.batches_done + 1):
            state[0], batch_loss = compiled(state[0], frozen, batch, micro_batch_size)
            loss_sum += batch_loss
            yield batches_done, loss_sum

    return train


def _on_device(step: Callable[..., Any], tiles: Tiles) -> Callable[..., Any]:
    """Like `_in_batches`, with images on the device, in one call or, if the epoch is long, more."""
    import jax

    pixels = np.concatenate([image.reshape(-1, image.shape[2]) for image in tiles.images])
    pixels = jax.device_put(pixels, _sharding())
    sizes = tiles.batch_sizes
    # The first batches of an epoch have one tile more than the last ones, if not all are equal.
    # `lax.scan` needs batches of one size.
    large_count = sizes.count(sizes[0])
    ends = np.cumsum([0, *sizes])
    batches_per_call = max(1, PIXELS_PER_CALL // (sizes[0] * tiles.size**2))

    @functools.partial(jax.jit, donate_argnums=0, static_argnums=5)
    def train_on(
        state: Any,
        frozen: Any,
        pixels: Any,
        batch_groups: list[TileIndices],
        loss_sum: Any,
        micro_batch_size: int,
    ) -> Any:
        def train_batch(carry: Any, indices: TileIndices) -> Any:
            state, loss_sum = carry
            batch = gather_tiles(pixels, indices, tiles.size)
            state, batch_loss = step(state, frozen, batch, micro_batch_size)
            return (state, loss_sum + batch_loss), None

        for batches in batch_groups:
            (state, loss_sum), _ = jax.lax.scan(train_batch, (state, loss_sum), batches)
        return state, loss_sum

    def train(
        state: list[Any], frozen: Any, epoch: int, start: Position, micro_batch_size: int
    ) -> Iterator[tuple[int, Any]]:
        indices = tile_indices(tiles, epoch)
        loss_sum = jax.device_put(np.float32(start.loss_sum), _sharding())
        for first in range(start.batches_done, len(sizes), batches_per_call):
            last = min(first + batches_per_call, len(sizes))
            groups = ((first, min(last, large_count)), (max(first, large_count), last))
            batch_groups = [
                TileIndices(
                    *(v[ends[a] : ends[b]].reshape(b - a, -1, *v.shape[1:]) for v in indices)
                )
                for a, b in groups
                if a < b
            ]
            state[0], loss_sum = train_on(
                state[0], frozen, pixels, batch_groups, loss_sum, micro_batch_size
            )
            if last < len(sizes):
                # JAX would queue all calls, and an interruption would have to wait for them.
                loss_sum.block_until_ready()
            yield last, loss_sum

    return train


class TileIndices(NamedTuple):
    """The position of each tile in the concatenated pixels of all images, and its augmentation.

    Attributes:
        first, width: int32 [n], index of the tile's first pixel, and width of its image in pixels.
        flips, transposes, channels: as in `keras_ae.datasets.tiles.Augmentation`, by tile.
    """

    first: Any
    width: Any
    flips: Any
    transposes: Any
    channels: Any


def tile_indices(tiles: Tiles, epoch: int) -> TileIndices:
    """Returns the positions of an epoch's tiles, in the order of training."""
    sides = np.array([image.shape[:2] for image in tiles.images])
    starts = np.concatenate([[0], np.cumsum(sides.prod(axis=1))[:-1]])
    draws = tiles.draw(epoch)
    order = draws.order
    image = tiles.image_of(order)
    corner = (draws.positions[order] * (sides[image] - tiles.size + 1)).astype(np.int64)
    first = starts[image] + corner[:, 0] * sides[image, 1] + corner[:, 1]
    return TileIndices(
        first.astype(np.int32),
        sides[image, 1].astype(np.int32),
        draws.flips[order],
        draws.transposes[order],
        draws.channels[order],
    )


def gather_tiles(pixels: Any, indices: TileIndices, size: int) -> Any:
    """Gathers augmented tiles, uint8 [n, size, size, C], from pixels, uint8 [pixels, C]."""
    offsets = ops.arange(size, dtype="int32")
    rows, columns = (
        ops.where(indices.flips[:, axis, None], offsets[::-1], offsets) for axis in (0, 1)
    )
    transposed = indices.transposes[:, None, None]
    rows, columns = (
        ops.where(transposed, ops.transpose(index, (0, 2, 1)), index)
        for index in (rows[:, :, None], columns[:, None, :])
    )
    index = indices.first[:, None, None] + rows * indices.width[:, None, None] + columns
    return ops.take_along_axis(pixels[index], indices.channels[:, None, None, :], axis=-1)


def is_chief() -> bool:
    """Whether this process is the one that writes files."""
    import jax

    return jax.process_index() == 0


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that a device ran out of memory."""
    import jax

    # On the CPU it is an INTERNAL error with the second text.
    texts = ("RESOURCE_EXHAUSTED", "Out of memory")
    return isinstance(error, jax.errors.JaxRuntimeError) and any(t in str(error) for t in texts)


def _fits(tiles: Tiles) -> bool:
    """Whether the images can stay in the device's memory."""
    import jax

    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    byte_count = sum(image.nbytes for image in tiles.images)
    # Pixels are indexed with int32.
    is_indexable = byte_count // tiles.images[0].shape[2] < 2**31
    return bool(is_indexable and byte_count <= MAX_MEMORY_SHARE * memory)


def _sharding(*, split: bool = False) -> Any:
    """Whole arrays on each device, or split by their first axis; None without a distribution."""
    import jax

    distribution = keras.distribution.distribution()
    if distribution is None:
        return None
    mesh = distribution.device_mesh.backend_mesh
    axes = mesh.axis_names[:1] if split else ()
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
