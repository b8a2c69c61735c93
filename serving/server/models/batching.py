"""Batching: concurrent requests share one call of the model."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
from google.protobuf.message import Message
from grpc import StatusCode

from keras_ae import contract
from keras_ae.errors import ConfigurationError
from serving.server.errors import RequestError, invalid
from serving.server.models.cancellation import Cancellation
from serving.server.models.inputs import LARGE_PIXELS, Inputs
from serving.server.models.servable import Outputs

Run = Callable[[Inputs], Outputs]

MAX_BATCH_PIXELS = LARGE_PIXELS
"""Limit of the pixels in a batch: larger ones take more memory and are not faster."""


@dataclass(frozen=True)
class BatchingOptions:
    """The BatchingParameters of TensorFlow Serving, with its defaults.

    Attributes:
        batch_timeout_micros: time that a batch waits for more requests while a thread is free.
        max_enqueued_batches: largest number of batches of a model version and signature that wait
            for a thread.
        allowed_batch_sizes: increasing sizes, to the next of which a batch is padded; or empty.

    Raises:
        ConfigurationError: if the sizes do not increase up to `max_batch_size`.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allowed_batch_sizes: tuple[int, ...] = ()

    @classmethod
    def from_proto(cls, parameters: Message) -> "BatchingOptions":
        """Converts the message; raises ConfigurationError if a value is out of range."""
        values: dict[str, Any] = {"allowed_batch_sizes": tuple(parameters.allowed_batch_sizes)}
        scalars = (f.name for f in fields(cls) if f.name != "allowed_batch_sizes")
        for name in filter(parameters.HasField, scalars):
            values[name] = value = getattr(parameters, name).value
            minimum = 0 if name == "batch_timeout_micros" else 1
            if value < minimum:
                raise ConfigurationError(f"{name} must be {minimum} or more; got {value}")
        if parameters.pad_variable_length_inputs:
            raise ConfigurationError(
                "pad_variable_length_inputs would add pixels to images: leave it out; a batch "
                "only has requests with the same shapes"
            )
        return cls(**values)

    def __post_init__(self) -> None:
        sizes = list(self.allowed_batch_sizes)
        if sizes != sorted(set(sizes)) or min(sizes, default=1) < 1:
            raise ConfigurationError(f"allowed_batch_sizes must be increasing; got {sizes}")
        if sizes and sizes[-1] != self.max_batch_size:
            raise ConfigurationError(
                f"the last of allowed_batch_sizes must be max_batch_size, {self.max_batch_size}; "
                f"got {sizes[-1]}"
            )


class Servable(Hashable, Protocol):
    """A model version: the key of its batches, which is kept loaded while one runs."""

    def in_use(self) -> AbstractContextManager[None]:
        """Keeps the version loaded until the block ends."""


@dataclass(eq=False)
class _Batch:
    servable: Servable
    queue: Hashable
    shapes: Hashable
    run: Run
    created_at: float
    tasks: list[tuple[Inputs, "asyncio.Future[Outputs]"]] = field(default_factory=list)
    cancellation: Cancellation = field(default_factory=Cancellation)
    operation: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def rows(self) -> int:
        return sum(inputs.rows for inputs, _ in self.tasks)

    @property
    def pixels(self) -> int:
        return sum(inputs.pixels for inputs, _ in self.tasks)


class Batcher:
    """Collects requests into batches on one event loop, and runs the batches in threads."""

    def __init__(self, options: BatchingOptions):
        self.options = options
        self._executor = ThreadPoolExecutor(options.num_batch_threads, "batch")
        self._idle_threads = options.num_batch_threads
        self._waiting: list[_Batch] = []
        self._timer: asyncio.Handle | None = None

    def check(self, inputs: Inputs) -> None:
        """Raises RequestError INVALID_ARGUMENT if a request has more rows than a batch may have."""
        rows, limit = inputs.rows, self.options.max_batch_size
        if rows > limit:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {limit}")

    async def submit(self, servable: Servable, inputs: Inputs, run: Run) -> Outputs:
        """Runs a request of 1 or more rows as part of a batch.

        Args:
            servable: the model version; requests of different ones never share a batch.
            inputs: the request.
            run: calls the model with the inputs of a batch.

        Raises:
            RequestError: INVALID_ARGUMENT if the request has more rows than a batch may have,
                UNAVAILABLE if the queue is full, or the error of `run` for this request alone.
        """
        self.check(inputs)
        batch = self._find_or_create_batch(servable, inputs, run)
        future: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        task = (inputs, future)
        batch.tasks.append(task)
        self._schedule()
        try:
            return await future
        finally:
            if future.cancelled() and batch in self._waiting:
                # A cancelled request must not take space in the batch.
                batch.tasks.remove(task)
                if not batch.tasks:
                    self._waiting.remove(batch)
            elif all(future.cancelled() for _, future in batch.tasks):
                batch.cancellation.cancel()

    def close(self) -> None:
        """Ends the threads once they are idle; does not wait for them."""
        self._executor.shutdown(wait=False)

    def _find_or_create_batch(self, servable: Servable, inputs: Inputs, run: Run) -> _Batch:
        queue = (servable, inputs.signature, inputs.outputs)
        waiting = [batch for batch in self._waiting if batch.queue == queue]
        for batch in waiting:
            rows, pixels = batch.rows + inputs.rows, batch.pixels + inputs.pixels
            fits = rows <= self.options.max_batch_size and pixels <= MAX_BATCH_PIXELS
            if batch.shapes == inputs.shapes and fits:
                return batch
        if len(waiting) >= self.options.max_enqueued_batches:
            raise RequestError(
                StatusCode.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; "
                f"max_enqueued_batches is {self.options.max_enqueued_batches}: try again later",
            )
        batch = _Batch(servable, queue, inputs.shapes, run, asyncio.get_running_loop().time())
        self._waiting.append(batch)
        return batch

    def _schedule(self) -> None:
        if self._timer:
            self._timer.cancel()
        # call_soon: requests that have already arrived join their batches first.
        self._timer = asyncio.get_running_loop().call_soon(self._start_ready)

    def _start_ready(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        for batch in [b for b in self._waiting if self._due_time(b) <= now][: self._idle_threads]:
            self._waiting.remove(batch)
            self._start(batch)
        if self._idle_threads and self._waiting:
            self._timer = loop.call_at(min(map(self._due_time, self._waiting)), self._start_ready)

    def _due_time(self, batch: _Batch) -> float:
        is_full = batch.rows >= self.options.max_batch_size or batch.pixels >= MAX_BATCH_PIXELS
        return 0.0 if is_full else batch.created_at + self.options.batch_timeout_micros / 1e6

    def _start(self, batch: _Batch) -> None:
        self._idle_threads -= 1
        batch.operation.enter_context(batch.servable.in_use())
        members = [inputs for inputs, _ in batch.tasks]
        # Padded to the next allowed size.
        rows = next((n for n in self.options.allowed_batch_sizes if n >= batch.rows), batch.rows)
        future = asyncio.get_running_loop().run_in_executor(
            self._executor, batch.cancellation.call, run_together, batch.run, members, rows
        )
        future.add_done_callback(lambda results: self._finish(batch, results))

    def _finish(self, batch: _Batch, results: "asyncio.Future[list[Outputs | Exception]]") -> None:
        self._idle_threads += 1
        batch.operation.close()
        for (_, future), result in zip(batch.tasks, results.result()):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        self._schedule()


def run_together(run: Run, members: Sequence[Inputs], rows: int) -> list[Outputs | Exception]:
    """Runs the requests of a batch in one call of the model; returns outputs or an error of each.

    They are run one by one if that call fails, so that a request does not fail because of another
    one. The same is done if a status says that the images of the batch exceed the limit of pixels,
    which is a limit of a call.

    Args:
        run: calls the model.
        members: the requests, all with the same signature, outputs and shapes of a row.
        rows: number of rows that the batch is padded to, with copies of the last row.
    """
    results: list[Outputs | Exception]
    try:
        results = list(_split(run(_join(members, rows)), members, rows))
    # The error may be of any kind and due to any of the members.
    except Exception as error:
        results = [error]
    if len(members) > 1 and any(map(_may_be_due_to_others, results)):
        return [run_together(run, [member], member.rows)[0] for member in members]
    for member, result in zip(members, results):
        if not isinstance(result, Exception) and contract.STATUS not in member.outputs:
            result.pop(contract.STATUS, None)
    return results


def _may_be_due_to_others(result: Outputs | Exception) -> bool:
    if isinstance(result, Exception):
        return True
    status = result.get(contract.STATUS)
    return status is not None and contract.TOO_MANY_PIXELS.encode() in status.ravel().tolist()


def _join(members: Sequence[Inputs], rows: int) -> Inputs:
    first = members[0]
    padding = rows - sum(member.rows for member in members)
    if len(members) == 1 and not padding:
        return first
    arrays = {}
    for name, last in members[-1].arrays.items():
        parts = [member.arrays[name] for member in members]
        arrays[name] = np.concatenate([*parts, np.repeat(last[-1:], padding, axis=0)])
    outputs = first.outputs
    if first.has_status and contract.STATUS not in outputs:
        outputs = (*outputs, contract.STATUS)
    return Inputs(first.signature, arrays, outputs, rows, 0)


def _split(outputs: Outputs, members: Sequence[Inputs], rows: int) -> list[Outputs]:
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise RequestError(
                StatusCode.FAILED_PRECONDITION,
                f"expected {rows} rows of output {name}, as in its batch; got the shape "
                f"{list(array.shape)}: serve this model without batching",
            )
    ends = np.cumsum([member.rows for member in members])
    return [
        {name: array[end - member.rows : end] for name, array in outputs.items()}
        for member, end in zip(members, ends)
    ]
