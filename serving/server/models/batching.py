"""Requests that arrive together share a call of the model."""

import asyncio
import os
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from keras_ae import contract
from keras_ae.errors import ConfigurationError
from serving.server.core import RequestError, invalid
from serving.server.models.inputs import Inputs

Outputs = dict[str, np.ndarray]
Run = Callable[[Inputs], Outputs]

MAX_BATCH_PIXELS = 4_000_000
"""Beyond this many pixels in a batch more of them only take memory; a larger request runs alone."""


@dataclass(frozen=True)
class BatchingOptions:
    """Defaults are those of the real server.

    Attributes:
        max_batch_size: rows, of all requests in a batch together.
        timeout: seconds that a request waits for others while a thread is free.
        max_enqueued_batches: of one model version and signature, waiting for a thread.
        threads: batches that run at once.
        allowed_sizes: increasing; a batch is padded to the next of them. Empty: no padding.
    """

    max_batch_size: int = 1000
    timeout: float = 0.0
    max_enqueued_batches: int = 10
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allowed_sizes: tuple[int, ...] = ()

    @classmethod
    def from_proto(cls, parameters: Any) -> "BatchingOptions":
        """Reads BatchingParameters.

        Raises:
            ConfigurationError: if a value is out of range, or something is asked that is not done.
        """
        given: dict[str, Any] = {}
        for name, key, smallest in (
            ("max_batch_size", "max_batch_size", 1),
            ("batch_timeout_micros", "timeout", 0),
            ("max_enqueued_batches", "max_enqueued_batches", 1),
            ("num_batch_threads", "threads", 1),
        ):
            if parameters.HasField(name):
                given[key] = getattr(parameters, name).value
                if given[key] < smallest:
                    raise ConfigurationError(f"{name} must be {smallest} or more; got {given[key]}")
        if "timeout" in given:
            given["timeout"] /= 1e6
        if parameters.pad_variable_length_inputs:
            raise ConfigurationError(
                "pad_variable_length_inputs would add pixels to images: leave it out; requests of "
                "other shapes are never in one batch"
            )
        options = cls(**given, allowed_sizes=tuple(parameters.allowed_batch_sizes))
        _check_allowed(options)
        return options

    def padded(self, rows: int) -> int:
        """Rows of the batch that `rows` are run in."""
        return next((size for size in self.allowed_sizes if size >= rows), rows)


def _check_allowed(options: BatchingOptions) -> None:
    sizes = options.allowed_sizes
    if not sizes:
        return
    if list(sizes) != sorted(set(sizes)) or sizes[0] < 1:
        raise ConfigurationError(f"allowed_batch_sizes must be increasing; got {list(sizes)}")
    if sizes[-1] != options.max_batch_size:
        raise ConfigurationError(
            f"the last of allowed_batch_sizes must be max_batch_size, {options.max_batch_size}; "
            f"got {sizes[-1]}"
        )


@dataclass(eq=False)
class _Batch:
    queue: Hashable
    shapes: Hashable
    run: Run
    opened: float
    tasks: list[tuple[Inputs, "asyncio.Future[Outputs]"]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(inputs.rows or 0 for inputs, _ in self.tasks)

    @property
    def pixels(self) -> int:
        return sum(inputs.pixels for inputs, _ in self.tasks)


class Batcher:
    """Gathers requests into batches; lives on one event loop, runs batches in threads."""

    def __init__(self, options: BatchingOptions):
        self.options = options
        self._executor = ThreadPoolExecutor(options.threads, "batch")
        self._idle = options.threads
        self._waiting: list[_Batch] = []
        self._timer: asyncio.Handle | None = None

    async def submit(self, servable: Hashable, inputs: Inputs, run: Run) -> Outputs:
        """Runs a request as a part of a batch.

        Args:
            servable: requests of other ones are never in the same batch.
            inputs: the request; its `rows` are not None.
            run: calls the model with the inputs of a batch.

        Raises:
            RequestError: INVALID_ARGUMENT for more rows than a batch may have, UNAVAILABLE if the
                queue is full, or what `run` raises for this request alone.
        """
        rows, limit = inputs.rows or 0, self.options.max_batch_size
        if rows > limit:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {limit}")
        batch = self._batch_for(servable, inputs, run)
        future: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        task = (inputs, future)
        batch.tasks.append(task)
        self._schedule()
        try:
            return await future
        finally:
            if future.cancelled() and batch in self._waiting:
                # A cancelled request gives its place back.
                batch.tasks.remove(task)
                if not batch.tasks:
                    self._waiting.remove(batch)

    def close(self) -> None:
        """Lets the threads go once they are done."""
        self._executor.shutdown(wait=False)

    def _batch_for(self, servable: Hashable, inputs: Inputs, run: Run) -> _Batch:
        queue = (servable, inputs.signature, inputs.outputs)
        waiting = [batch for batch in self._waiting if batch.queue == queue]
        for batch in waiting:
            if batch.shapes == inputs.shapes and self._fits(batch, inputs):
                return batch
        if len(waiting) >= self.options.max_enqueued_batches:
            raise RequestError(
                grpc.StatusCode.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; "
                f"max_enqueued_batches is {self.options.max_enqueued_batches}: try again later",
            )
        opened = asyncio.get_running_loop().time()
        self._waiting.append(_Batch(queue, inputs.shapes, run, opened))
        return self._waiting[-1]

    def _fits(self, batch: _Batch, inputs: Inputs) -> bool:
        rows = batch.rows + (inputs.rows or 0)
        return (
            rows <= self.options.max_batch_size and batch.pixels + inputs.pixels <= MAX_BATCH_PIXELS
        )

    def _schedule(self) -> None:
        if self._timer:
            self._timer.cancel()
        # What else has arrived by now is seen first.
        self._timer = asyncio.get_running_loop().call_soon(self._start_ready)

    def _start_ready(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        for batch in [b for b in self._waiting if self._due(b) <= now][: self._idle]:
            self._waiting.remove(batch)
            self._start(batch)
        if self._idle and self._waiting:
            self._timer = loop.call_at(min(map(self._due, self._waiting)), self._start_ready)

    def _due(self, batch: _Batch) -> float:
        full = batch.rows >= self.options.max_batch_size or batch.pixels >= MAX_BATCH_PIXELS
        return 0.0 if full else batch.opened + self.options.timeout

    def _start(self, batch: _Batch) -> None:
        self._idle -= 1
        inputs = [inputs for inputs, _ in batch.tasks]
        work = asyncio.get_running_loop().run_in_executor(
            self._executor, run_together, batch.run, inputs, self.options.padded(batch.rows)
        )
        work.add_done_callback(lambda done: self._finish(batch, done))

    def _finish(self, batch: _Batch, done: "asyncio.Future[list[Outputs | Exception]]") -> None:
        self._idle += 1
        for (_, future), result in zip(batch.tasks, done.result()):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        self._schedule()


def run_together(run: Run, members: Sequence[Inputs], rows: int) -> list[Outputs | Exception]:
    """Runs requests as one, or one by one where that fails or one takes the pixels of others.

    Args:
        run: calls the model.
        members: of one signature, one set of outputs and one shape beyond the first dimension.
        rows: to pad to, with copies of the last row.

    Returns:
        For each member its outputs, or the error that it gets alone.
    """
    try:
        answers = _split(run(_joined(members, rows)), members, rows)
    # One at a time each gets its own answer or its own error.
    except Exception as error:
        if len(members) == 1:
            return [error]
        return _run_each(run, members)
    if len(members) > 1 and any(map(_is_short_of_pixels, answers)):
        return _run_each(run, members)
    return [
        {name: array for name, array in answer.items() if name in member.outputs}
        for member, answer in zip(members, answers)
    ]


def _run_each(run: Run, members: Sequence[Inputs]) -> list[Outputs | Exception]:
    return [run_together(run, [member], member.rows or 0)[0] for member in members]


def _is_short_of_pixels(answer: Outputs) -> bool:
    status = answer.get(contract.STATUS)
    return status is not None and contract.TOO_MANY_PIXELS.encode() in status.ravel().tolist()


def _joined(members: Sequence[Inputs], rows: int) -> Inputs:
    first = members[0]
    padding = rows - sum(member.rows or 0 for member in members)
    if len(members) == 1 and not padding:
        return first
    arrays: dict[str, np.ndarray] = {}
    for name in first.arrays:
        parts = [member.arrays[name] for member in members]
        if padding:
            parts.append(np.repeat(parts[-1][-1:], padding, axis=0))
        arrays[name] = np.concatenate(parts)
    outputs = first.outputs
    if first.has_status and contract.STATUS not in outputs:
        outputs = (*outputs, contract.STATUS)
    return Inputs(first.signature, arrays, outputs, rows, 0)


def _split(outputs: Outputs, members: Sequence[Inputs], rows: int) -> list[Outputs]:
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"output {name} of shape {list(array.shape)} does not have the {rows} rows of its "
                "batch: serve this model without batching",
            )
    ends = np.cumsum([member.rows or 0 for member in members])
    return [
        {name: array[end - (member.rows or 0) : end] for name, array in outputs.items()}
        for member, end in zip(members, ends)
    ]
