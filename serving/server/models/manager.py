"""All served models: the implementation of `serving.server.core.Core`."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc

from keras_ae import contract
from serving.server.core import RequestError, invalid
from serving.server.models import config
from serving.server.models.batching import Batcher, BatchingOptions
from serving.server.models.model import AVAILABLE, Model, Version
from serving.server.models.servable import find_signature, to_response
from serving.server.models.versions import Loaders
from serving.wire.protos import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelConfig,
    ModelServerConfig,
    ModelSpec,
    PredictRequest,
    PredictResponse,
    ReloadConfigRequest,
    ReloadConfigResponse,
    SignatureDef,
    SignatureDefMap,
)

logger = logging.getLogger("serving.server")

SIGNATURE_DEF = "signature_def"
SMALL_BYTES = 2**20
"""Requests and responses up to this size are converted on the event loop, not in a thread."""


@dataclass(frozen=True)
class ManagerOptions:
    """How versions are found and loaded.

    Attributes:
        poll_seconds: seconds between searches for versions below the base paths; 0 to search once.
        load_retries: number of retries to load a version.
        retry_seconds: seconds between these retries.
        threads: number of concurrent calls of models when requests are not batched.
        labels_ahead: whether a new label may be assigned to a version that is not available yet.
    """

    poll_seconds: float = 1.0
    load_retries: int = 5
    retry_seconds: float = 60.0
    threads: int = os.cpu_count() or 1
    labels_ahead: bool = False


class Manager:
    """Loads, watches and calls models. All methods run on the event loop that `start` ran on."""

    def __init__(
        self,
        options: ManagerOptions,
        batching: BatchingOptions | None = None,
        on_change: Callable[[], None] = lambda: None,
    ):
        """
        Args:
            options: how versions are found and loaded.
            batching: options of batching; None for no batching.
            on_change: called when a version has become available or unavailable.
        """
        self._options, self._on_change = options, on_change
        self._models: dict[str, Model] = {}
        self._configured: set[str] = set()
        self._loaders = Loaders()
        self._executor = ThreadPoolExecutor(options.threads, "predict")
        self._batcher = Batcher(batching) if batching else None
        self._poller: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()

    async def start(self, server_config: ModelServerConfig) -> None:
        """Starts to load and to watch the models of a checked configuration."""
        await self._apply(server_config)
        for model in server_config.model_config_list.config:
            self._models[model.name].labels = dict(model.version_labels)
        if self._options.poll_seconds:
            self._poller = asyncio.ensure_future(self._poll_forever())

    async def close(self) -> None:
        """Stops watching and loading; waits for versions that are being loaded."""
        if self._poller:
            self._poller.cancel()
        await asyncio.gather(*(model.close() for model in self._models.values()))
        if self._batcher:
            self._batcher.close()
        self._executor.shutdown(wait=False)
        self._loaders.close()

    def models(self) -> list[str]:
        """See `Core.models`."""
        return sorted(self._configured)

    def ready(self) -> bool:
        """Returns whether every configured model has an available version."""
        return bool(self._configured) and all(
            self._models[name].available for name in self._configured
        )

    async def predict(self, request: PredictRequest) -> PredictResponse:
        """See `Core.predict`."""
        model, version = self._resolve(request)
        version.requests += 1
        if self._batcher:
            try:
                return await self._predict_in_batch(self._batcher, version, request)
            finally:
                model.release(version)
        return await self._predict_alone(model, version, request)

    def signature(self, spec: ModelSpec, name: str) -> SignatureDef:
        """See `Core.signature`."""
        servable = self._model(spec).resolve(spec).servable
        return find_signature(servable.signatures, name or contract.SERVING_DEFAULT)

    def metadata(self, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
        """See `Core.metadata`."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise invalid(f"Metadata field {field[:200]} is not supported")
        _, version = self._resolve(request)
        signatures = SignatureDefMap()
        for name, signature in version.servable.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version.number
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response

    def status(self, request: GetModelStatusRequest) -> GetModelStatusResponse:
        """See `Core.status`."""
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
            requested = "any versions" if number is None else f"version {number}"
            raise RequestError(
                grpc.StatusCode.NOT_FOUND, f"Could not find {requested} of model {spec.name[:200]}"
            )
        response = GetModelStatusResponse()
        for key in sorted(by_number, reverse=True):
            _add_status(response, by_number[key])
        return response

    async def reload(self, request: ReloadConfigRequest) -> ReloadConfigResponse:
        """See `Core.reload`; returns once new models are loaded or have failed."""
        await self.reconfigure(request.config)
        return ReloadConfigResponse()

    async def reconfigure(self, server_config: ModelServerConfig) -> None:
        """Serves the models of a new configuration, and waits for their versions.

        Raises:
            RequestError: INVALID_ARGUMENT if the configuration is invalid; nothing changes then.
                UNKNOWN if a model has no version that can be loaded. FAILED_PRECONDITION if a label
                is assigned to a version that is not available (see `ManagerOptions.labels_ahead`);
                the labels do not change then.
        """
        config.check(server_config)
        async with self._reloading:
            await self._apply(server_config)
            configs = server_config.model_config_list.config
            models = [self._models[model_config.name] for model_config in configs]
            await asyncio.gather(*(model.settle() for model in models))
            missing = [model.name for model in models if not model.available]
            if missing:
                raise RequestError(
                    grpc.StatusCode.UNKNOWN,
                    f"Some models did not become available: {{{', '.join(missing)}}}",
                )
            self._set_labels(configs)

    def _model(self, spec: ModelSpec) -> Model:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        if spec.name in self._models:
            return self._models[spec.name]
        # The errors of an unknown model are those of a model without versions.
        return self._new_model(spec.name)

    def _new_model(self, name: str) -> Model:
        return Model(
            name,
            loaders=self._loaders,
            load_retries=self._options.load_retries,
            retry_seconds=self._options.retry_seconds,
            on_change=self._on_change,
        )

    def _resolve(self, request: PredictRequest | GetModelMetadataRequest) -> tuple[Model, Version]:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        model = self._model(request.model_spec)
        return model, model.resolve(request.model_spec)

    async def _predict_alone(
        self, model: Model, version: Version, request: PredictRequest
    ) -> PredictResponse:
        loop, servable = asyncio.get_running_loop(), version.servable
        future = self._executor.submit(servable.predict, request, version.number)
        try:
            return await asyncio.wrap_future(future)
        finally:
            if future.done():
                model.release(version)
            else:
                # The request was cancelled, but the thread still uses the model.
                future.add_done_callback(
                    lambda _: loop.call_soon_threadsafe(model.release, version)
                )

    async def _predict_in_batch(
        self, batcher: Batcher, version: Version, request: PredictRequest
    ) -> PredictResponse:
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
        arguments = (request, version.number, inputs.signature, outputs)
        if sum(array.nbytes for array in outputs.values()) <= SMALL_BYTES:
            return to_response(*arguments)
        return await asyncio.to_thread(to_response, *arguments)

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(self._options.poll_seconds)
            await self._poll()

    async def _poll(self) -> None:
        await asyncio.gather(*(self._models[name].poll() for name in self.models()))

    async def _apply(self, server_config: ModelServerConfig) -> None:
        configs = {config.name: config for config in server_config.model_config_list.config}
        for name, model_config in configs.items():
            self._models.setdefault(name, self._new_model(name)).config = model_config
        removed = self._configured - set(configs)
        self._configured = set(configs)
        for name in removed:
            self._models[name].unconfigure()
        await self._poll()
        self._on_change()

    def _set_labels(self, configs: Sequence[ModelConfig]) -> None:
        for model_config in configs:
            model = self._models[model_config.name]
            available = {version.number for version in model.available}
            for label, number in model_config.version_labels.items():
                is_allowed_ahead = self._options.labels_ahead and label not in model.labels
                if number not in available and not is_allowed_ahead:
                    raise RequestError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {model.name}, "
                        "which is not currently available for inference",
                    )
        for model_config in configs:
            self._models[model_config.name].labels = dict(model_config.version_labels)


def _add_status(response: GetModelStatusResponse, version: Version) -> None:
    entry = response.model_version_status.add(version=version.number, state=version.state)
    error = version.error
    if error and version.state != AVAILABLE:
        entry.status.error_code = error.code.value[0]
        entry.status.error_message = error.message
