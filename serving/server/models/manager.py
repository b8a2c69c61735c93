"""All served models, which the frontends call."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import numpy as np
from grpc import StatusCode

from serving.server.errors import RequestError, invalid
from serving.server.models import config
from serving.server.models.batching import Batcher, BatchingOptions
from serving.server.models.cancellation import Cancellation
from serving.server.models.model import AVAILABLE, Model, Version
from serving.server.models.servable import Convert, response_spec
from serving.server.models.versions import Loaders, ManagerOptions
from serving.wire import protos

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("serving.server")

SIGNATURE_DEF = "signature_def"
SMALL_BYTES = 2**20
"""Requests and responses up to this size are converted on the event loop, not in a thread."""


class Manager:
    """Loads, watches and calls models. All methods run on the event loop that `start` ran on.

    Those that take a request or a spec raise RequestError. `on_change` is called when a version has
    become available or unavailable. Requests are batched if there are options for it.
    """

    def __init__(
        self,
        options: ManagerOptions,
        batching: BatchingOptions | None,
        on_change: Callable[[], None],
    ):
        self._options, self._on_change = options, on_change
        self._models: dict[str, Model] = {}
        self._configured: set[str] = set()
        self._loaders = Loaders()
        cpu_count = os.cpu_count() or 1
        # Large requests leave a processor to the others.
        self._executors = {
            False: ThreadPoolExecutor(cpu_count, "predict"),
            True: ThreadPoolExecutor(max(1, cpu_count - 1), "predict large"),
        }
        self._batcher = Batcher(batching) if batching else None
        self._poller: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()

    async def start(self, server_config: protos.ModelServerConfig) -> None:
        """Starts to load and to watch the models of a checked configuration.

        Raises RequestError FAILED_PRECONDITION as `reconfigure` does, for every label unless labels
        may be assigned ahead.
        """
        self._set_labels(server_config.model_config_list.config)
        await self._apply(server_config)
        if self._options.poll_seconds:
            self._poller = asyncio.ensure_future(self._poll_forever())

    async def wait_until_available(self) -> None:
        """Waits until each configured model has an available version.

        Raises:
            ConfigurationError: if none of the versions of a model can be loaded.
        """
        for name in self.models():
            await self._models[name].wait_until_available()

    async def close(self) -> None:
        """Stops watching and loading; waits for versions that are being loaded."""
        if self._poller:
            self._poller.cancel()
        await asyncio.gather(*(model.close() for model in self._models.values()))
        if self._batcher:
            self._batcher.close()
        for executor in self._executors.values():
            executor.shutdown(wait=False)
        self._loaders.close()

    def models(self) -> list[str]:
        """Returns the names of the configured models."""
        return sorted(self._configured)

    def ready(self) -> bool:
        """Returns whether every configured model has an available version."""
        available = [bool(self._models[name].available) for name in self._configured]
        return bool(available) and all(available)

    async def predict(self, request: protos.PredictRequest, size: int, convert: Convert[T]) -> T:
        """Calls a signature of a model with a request of so many bytes, and converts its outputs.

        A large request waits for other large ones only, and is not part of a batch.
        """
        version = self._model(spec_of(request)).resolve(request.model_spec)
        with version.in_use():
            servable = version.servable
            inputs = await _compute(size, servable.check, request)
            spec = response_spec(request, version.number, inputs.signature)
            if self._batcher and inputs.rows and not inputs.is_large:
                outputs = await self._batcher.submit(version, inputs, servable.run)
                return await _compute(sum(map(_size, outputs.values())), convert, spec, outputs)
            if self._batcher:
                self._batcher.check(inputs)
            executor = self._executors[inputs.is_large]
            return await _call_in(executor, version, lambda: convert(spec, servable.run(inputs)))

    def signatures(self, spec: protos.ModelSpec) -> dict[str, protos.SignatureDef]:
        """Returns the signatures of the version that a ModelSpec requests, by name."""
        return self._model(spec).resolve(spec).servable.signatures

    def metadata(self, request: protos.GetModelMetadataRequest) -> protos.GetModelMetadataResponse:
        """Returns the signatures of a model."""
        spec = spec_of(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise invalid(f"Metadata field {field[:200]} is not supported")
        version = self._model(spec).resolve(spec)
        signatures = protos.SignatureDefMap(signature_def=version.servable.signatures)
        response = protos.GetModelMetadataResponse(
            model_spec={"name": spec.name, "version": {"value": version.number}}
        )
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response

    def status(self, request: protos.GetModelStatusRequest) -> protos.GetModelStatusResponse:
        """Returns the states of a model's versions, the newest first."""
        spec = spec_of(request)
        # As in TensorFlow Serving, a label is ignored.
        number = spec.version.value if spec.HasField("version") else None
        model = self._models.get(spec.name)
        versions = model.versions if model else []
        found = {v.number: v for v in versions if number in (None, v.number)}
        if not found:
            requested = "any versions" if number is None else f"version {number}"
            message = f"Could not find {requested} of model {spec.name[:200]}"
            raise RequestError(StatusCode.NOT_FOUND, message)
        response = protos.GetModelStatusResponse()
        for _, version in sorted(found.items(), reverse=True):
            entry = response.model_version_status.add(version=version.number, state=version.state)
            if version.error and version.state != AVAILABLE:
                entry.status.error_code = version.error.code.value[0]
                entry.status.error_message = version.error.message
        return response

    async def reload(self, request: protos.ReloadConfigRequest) -> protos.ReloadConfigResponse:
        """See `reconfigure`."""
        await self.reconfigure(request.config)
        return protos.ReloadConfigResponse()

    async def reconfigure(self, server_config: protos.ModelServerConfig) -> None:
        """Serves the models of a new configuration, and waits for their versions.

        Raises:
            RequestError: INVALID_ARGUMENT if the configuration is invalid, and FAILED_PRECONDITION
                if a label is assigned to a version that is not available yet (see
                `ManagerOptions.labels_ahead`); nothing changes then. UNKNOWN if a model has no
                version that can be loaded.
        """
        config.check(server_config)
        configs = server_config.model_config_list.config
        async with self._reloading:
            self._set_labels(configs)
            await self._apply(server_config)
            models = [self._models[model_config.name] for model_config in configs]
            await asyncio.gather(*(model.settle() for model in models))
            missing = [model.name for model in models if not model.available]
            if missing:
                message = f"Some models did not become available: {{{', '.join(missing)}}}"
                raise RequestError(StatusCode.UNKNOWN, message)

    def _model(self, spec: protos.ModelSpec) -> Model:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        # The errors of an unknown model are those of a model without versions.
        return self._models.get(spec.name) or self._new_model(spec.name)

    def _new_model(self, name: str) -> Model:
        return Model(name, self._loaders, self._options, self._on_change)

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(self._options.poll_seconds)
            await self._poll()

    async def _poll(self) -> None:
        await asyncio.gather(*(self._models[name].poll() for name in self.models()))

    async def _apply(self, server_config: protos.ModelServerConfig) -> None:
        configs = {config.name: config for config in server_config.model_config_list.config}
        for name, model_config in configs.items():
            self._models.setdefault(name, self._new_model(name)).config = model_config
        removed, self._configured = self._configured - set(configs), set(configs)
        for name in removed:
            self._models[name].unconfigure()
        await self._poll()
        self._on_change()

    def _set_labels(self, configs: Sequence[protos.ModelConfig]) -> None:
        for model_config in configs:
            model = self._models.setdefault(model_config.name, self._new_model(model_config.name))
            available = {version.number for version in model.available}
            for label, number in model_config.version_labels.items():
                is_moved = model.labels.get(label, number) != number
                is_allowed_ahead = self._options.labels_ahead and not is_moved
                if number not in available and not is_allowed_ahead:
                    raise RequestError(
                        StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {model.name}, "
                        "which is not currently available for inference",
                    )
        for model_config in configs:
            self._models[model_config.name].labels = dict(model_config.version_labels)


def _size(array: np.ndarray) -> int:
    return array.nbytes if array.dtype != object else sum(map(len, array.ravel().tolist()))


async def _compute(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function, in a thread if its data has so many bytes that it would block the loop."""
    if size > SMALL_BYTES:
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)


async def _call_in(executor: ThreadPoolExecutor, version: Version, function: Callable[[], T]) -> T:
    """Calls a function of a version in a thread.

    If the task is cancelled, TensorFlow stops computing after the operation that runs, and the
    version stays loaded until then.
    """
    cancellation, operation = Cancellation(), contextlib.ExitStack()
    work = executor.submit(cancellation.call, function)
    future = asyncio.wrap_future(work)
    operation.enter_context(version.in_use())

    def end(future: asyncio.Future[T]) -> None:
        operation.close()
        # Nobody else looks at the error of a cancelled call, which asyncio would log.
        if not future.cancelled():
            future.exception()

    future.add_done_callback(end)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancellation.cancel()
        work.cancel()
        raise


def spec_of(request: Any) -> protos.ModelSpec:
    """Returns the ModelSpec of a request; raises RequestError if it has none."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec: protos.ModelSpec = request.model_spec
    return spec
