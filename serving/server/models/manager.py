"""All models that are served: `serving.server.core.Core` over TensorFlow."""

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc

from keras_ae import contract
from serving.server.core import RequestError, invalid
from serving.server.models import config
from serving.server.models.batching import Batcher, BatchingOptions
from serving.server.models.model import AVAILABLE, Model, Version
from serving.server.models.servable import find_signature, response
from serving.server.models.versions import Loaders
from serving.wire.protos import (
    GetModelMetadataResponse,
    GetModelStatusResponse,
    ReloadConfigResponse,
    SignatureDefMap,
)

logger = logging.getLogger("serving.server")

SIGNATURE_DEF = "signature_def"
SMALL_BYTES = 2**20
"""Requests and answers up to this size are taken apart and put together on the event loop."""


@dataclass(frozen=True)
class ManagerOptions:
    """How versions are looked for and loaded.

    Attributes:
        poll_seconds: between looks under the base paths; 0 for once.
        load_retries: how often a version that cannot be loaded is tried again.
        retry_seconds: between these tries.
        threads: calls of models at once, where requests are not batched.
        labels_ahead: whether a label that is not in use yet may be given to a version that is not
            available yet.
    """

    poll_seconds: float = 1.0
    load_retries: int = 5
    retry_seconds: float = 60.0
    threads: int = os.cpu_count() or 1
    labels_ahead: bool = False


class Manager:
    """Loads, watches and calls models. Every method is for the event loop that `start` ran on."""

    def __init__(
        self,
        options: ManagerOptions,
        batching: BatchingOptions | None = None,
        on_change: Callable[[], None] = lambda: None,
    ):
        """
        Args:
            options: how versions are looked for and loaded.
            batching: None for a call of the model per request.
            on_change: called when a version has become available or has stopped to be.
        """
        self._options, self._on_change = options, on_change
        self._models: dict[str, Model] = {}
        self._configured: set[str] = set()
        self._loaders = Loaders()
        self._executor = ThreadPoolExecutor(options.threads, "predict")
        self._batcher = Batcher(batching) if batching else None
        self._poller: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()

    async def start(self, server_config: Any) -> None:
        """Begins to load and to watch the models of a checked ModelServerConfig."""
        await self._apply(server_config)
        for model in server_config.model_config_list.config:
            self._models[model.name].labels = dict(model.version_labels)
        if self._options.poll_seconds:
            self._poller = asyncio.ensure_future(self._poll_for_ever())

    async def close(self) -> None:
        """Stops watching and loading, once what is being loaded is."""
        if self._poller:
            self._poller.cancel()
        await asyncio.gather(*(model.close() for model in self._models.values()))
        if self._batcher:
            self._batcher.close()
        self._executor.shutdown(wait=False)
        self._loaders.close()

    def models(self) -> list[str]:
        """The names of the models that are configured."""
        return sorted(self._configured)

    def ready(self) -> bool:
        """Whether every model that is configured has an available version."""
        return bool(self._configured) and all(
            self._models[name].available for name in self._configured
        )

    async def predict(self, request: Any) -> Any:
        """PredictRequest -> PredictResponse."""
        model, version = self._resolve(request)
        version.requests += 1
        if self._batcher:
            try:
                return await self._predict_in_batch(self._batcher, version, request)
            finally:
                model.release(version)
        return await self._predict_alone(model, version, request)

    def signature(self, spec: Any, name: str) -> Any:
        """The SignatureDef that a ModelSpec and a signature name (empty: the default) reach."""
        servable = self._model(spec).resolve(spec).servable
        return find_signature(servable.signatures, name or contract.SERVING_DEFAULT)

    def metadata(self, request: Any) -> Any:
        """GetModelMetadataRequest -> GetModelMetadataResponse."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise invalid(f"Metadata field {field[:200]} is not supported")
        _, version = self._resolve(request)
        found = SignatureDefMap()
        for name, signature in version.servable.signatures.items():
            found.signature_def[name].CopyFrom(signature)
        made = GetModelMetadataResponse()
        made.model_spec.name = request.model_spec.name
        made.model_spec.version.value = version.number
        made.metadata[SIGNATURE_DEF].Pack(found)
        return made

    def status(self, request: Any) -> Any:
        """GetModelStatusRequest -> GetModelStatusResponse."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        model = self._models.get(spec.name)
        number = model.number_of(spec) if model else None
        if number is None and spec.WhichOneof("version_choice") == "version":
            number = spec.version.value
        by_number = {v.number: v for v in (model.versions if model else [])}
        if number is not None:
            by_number = {number: by_number[number]} if number in by_number else {}
        if not by_number:
            which = "any versions" if number is None else f"version {number}"
            raise RequestError(
                grpc.StatusCode.NOT_FOUND, f"Could not find {which} of model {spec.name[:200]}"
            )
        made = GetModelStatusResponse()
        for key in sorted(by_number, reverse=True):
            _add_status(made, by_number[key])
        return made

    async def reload(self, request: Any) -> Any:
        """ReloadConfigRequest -> ReloadConfigResponse, once new models are loaded or failed."""
        await self.reconfigure(request.config)
        return ReloadConfigResponse()

    async def reconfigure(self, server_config: Any) -> None:
        """Serves the models of a ModelServerConfig from now on, and waits for their versions.

        Raises:
            RequestError: INVALID_ARGUMENT and nothing is changed; UNKNOWN if a model has no
                version that can be loaded; FAILED_PRECONDITION if a label is given to a version
                that is not available (see `labels_ahead`), and labels stay as they were.
        """
        config.check(server_config)
        async with self._reloading:
            await self._apply(server_config)
            listed = server_config.model_config_list.config
            models = [self._models[model.name] for model in listed]
            await asyncio.gather(*(model.settle() for model in models))
            missing = [model.name for model in models if not model.available]
            if missing:
                raise RequestError(
                    grpc.StatusCode.UNKNOWN,
                    f"Some models did not become available: {{{', '.join(missing)}}}",
                )
            self._set_labels(listed)

    def _model(self, spec: Any) -> Model:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        if spec.name in self._models:
            return self._models[spec.name]
        # A model without versions answers as one that is not there.
        return self._new_model(spec.name)

    def _new_model(self, name: str) -> Model:
        return Model(
            name,
            loaders=self._loaders,
            load_retries=self._options.load_retries,
            retry_seconds=self._options.retry_seconds,
            on_change=self._on_change,
        )

    def _resolve(self, request: Any) -> tuple[Model, Version]:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        model = self._model(request.model_spec)
        return model, model.resolve(request.model_spec)

    async def _predict_alone(self, model: Model, version: Version, request: Any) -> Any:
        loop, servable = asyncio.get_running_loop(), version.servable
        work = self._executor.submit(servable.predict, request, version.number)
        try:
            return await asyncio.wrap_future(work)
        finally:
            if work.done():
                model.release(version)
            else:
                # Nobody waits any more, but the thread still uses the model.
                work.add_done_callback(lambda _: loop.call_soon_threadsafe(model.release, version))

    async def _predict_in_batch(self, batcher: Batcher, version: Version, request: Any) -> Any:
        servable = version.servable
        if request.ByteSize() <= SMALL_BYTES:
            inputs = servable.check(request)
        else:
            inputs = await asyncio.to_thread(servable.check, request)
        if inputs.rows is None:
            loop = asyncio.get_running_loop()
            outputs = await loop.run_in_executor(self._executor, servable.run, inputs)
        else:
            outputs = await batcher.submit(version, inputs, servable.run)
        make = (request, version.number, inputs.signature, outputs)
        if sum(array.nbytes for array in outputs.values()) <= SMALL_BYTES:
            return response(*make)
        return await asyncio.to_thread(response, *make)

    async def _poll_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._options.poll_seconds)
            await self._poll()

    async def _poll(self) -> None:
        await asyncio.gather(*(self._models[name].poll() for name in self.models()))

    async def _apply(self, server_config: Any) -> None:
        listed = {model.name: model for model in server_config.model_config_list.config}
        for name, model_config in listed.items():
            self._models.setdefault(name, self._new_model(name)).config = model_config
        removed = self._configured - set(listed)
        self._configured = set(listed)
        for name in removed:
            self._models[name].unconfigure()
        await self._poll()
        self._on_change()

    def _set_labels(self, listed: Any) -> None:
        for model in listed:
            known = self._models[model.name]
            available = {version.number for version in known.available}
            for label, number in model.version_labels.items():
                ahead = self._options.labels_ahead and label not in known.labels
                if number not in available and not ahead:
                    raise RequestError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {model.name}, "
                        "which is not currently available for inference",
                    )
        for model in listed:
            self._models[model.name].labels = dict(model.version_labels)


def _add_status(made: Any, version: Version) -> None:
    entry = made.model_version_status.add(version=version.number, state=version.state)
    error = version.error
    if error and version.state != AVAILABLE:
        entry.status.error_code = error.code.value[0]
        entry.status.error_message = error.message
