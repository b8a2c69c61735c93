"""A SavedModel in memory: its signatures, and what they answer."""

import contextlib
import ctypes
import gc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from keras_ae import contract
from serving.server.core import RequestError
from serving.server.models.inputs import Inputs, check
from serving.wire.protos import (
    PredictionLog,
    PredictResponse,
    SavedModel,
)
from serving.wire.tensors import to_proto

WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
MAX_WARMUP_REQUESTS = 1000
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_NOISE = re.compile(
    r"\s*(Graph execution error:|Detected at node .*|<stack traces unavailable>|File \".*"
    r"|\[\[\{\{node .*|\d+ root error\(s\) found\.)?\s*"
)


def signature_name(spec: Any) -> str:
    """The signature that a ModelSpec asks for."""
    return str(spec.signature_name) or contract.SERVING_DEFAULT


def find_signature(signatures: Any, name: str) -> Any:
    """The SignatureDef of that name.

    Raises:
        RequestError: FAILED_PRECONDITION if there is none.
    """
    if name not in signatures:
        known = ", ".join(sorted(signatures))
        raise RequestError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f'Serving signature key "{name[:200]}" not found. Known: {known}',
        )
    return signatures[name]


class Servable:
    """A loaded SavedModel. Every method may be called from several threads at once."""

    def __init__(self, path: Path):
        """Loads a SavedModel and runs the warm-up requests that it carries.

        Args:
            path: folder with `saved_model.pb`.

        Raises:
            RequestError: if a file is missing or broken, or a warm-up request fails.
            Exception: whatever TensorFlow raises for a folder that it cannot load.
        """
        import tensorflow as tf

        graph = _read_graph(path)
        self.signatures = dict(graph.signature_def)
        """Name -> SignatureDef, as the file has them."""
        _check_variables(path, graph)
        self._model = tf.saved_model.load(str(path))
        self._functions = dict(self._model.signatures)
        self._pixels_per_position = 1
        self._pixels_per_position = self._probe()
        for request in _warmup_requests(path):
            self.predict(request, 0)

    def check(self, request: Any) -> Inputs:
        """Checks a PredictRequest against its signature.

        Raises:
            RequestError: FAILED_PRECONDITION or INVALID_ARGUMENT.
        """
        name = signature_name(request.model_spec)
        signature = find_signature(self.signatures, name)
        find_signature(self._functions, name)
        return check(name, signature, request, self._pixels_per_position)

    def run(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Calls the signature.

        Returns:
            The outputs that are asked for, as arrays.

        Raises:
            RequestError: with the status and the words of TensorFlow.
        """
        import tensorflow as tf

        function = self._functions[inputs.signature]
        try:
            answers = function(**{k: tf.constant(v) for k, v in inputs.arrays.items()})
            return {name: answers[name].numpy() for name in inputs.outputs}
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise as_request_error(error) from error

    def predict(self, request: Any, version: int) -> Any:
        """PredictRequest -> PredictResponse.

        Raises:
            RequestError: as `check` and `run` do.
        """
        inputs = self.check(request)
        return response(request, version, inputs.signature, self.run(inputs))

    def _probe(self) -> int:
        """Pixels that one position of the latents becomes; 1 where nothing is decoded."""
        if contract.DECODE not in self._functions:
            return 1
        inputs = self.signatures[contract.DECODE].inputs
        shape = inputs[contract.LATENTS].tensor_shape if contract.LATENTS in inputs else None
        if len(inputs) != 1 or shape is None or len(shape.dim) != 4:
            return 1
        latents = np.zeros((1, 1, 1, max(1, shape.dim[3].size)), np.float32)
        outputs = (contract.IMAGES,)
        images = self.run(Inputs(contract.DECODE, {contract.LATENTS: latents}, outputs, 1, 0))
        return int(np.prod(images[contract.IMAGES].shape[1:3]))


def response(request: Any, version: int, signature: str, outputs: dict[str, np.ndarray]) -> Any:
    """The PredictResponse that says who answered."""
    made = PredictResponse()
    made.model_spec.name = request.model_spec.name
    made.model_spec.signature_name = signature
    made.model_spec.version.value = version
    for name, array in outputs.items():
        made.outputs[name].CopyFrom(to_proto(array))
    return made


def _read_graph(path: Path) -> Any:
    file = path / "saved_model.pb"
    try:
        saved = SavedModel.FromString(file.read_bytes())
    except OSError as error:
        raise RequestError(grpc.StatusCode.NOT_FOUND, f"cannot read {file}: {error}") from error
    except DecodeError as error:
        raise RequestError(
            grpc.StatusCode.DATA_LOSS, f"{file} is no SavedModel: {error}"
        ) from error
    for graph in saved.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            return graph
    raise RequestError(grpc.StatusCode.NOT_FOUND, f"{file} has no graph with the tag 'serve'")


def _check_variables(path: Path, graph: Any) -> None:
    # TensorFlow loads a model without them and fails at the first request.
    nodes = graph.object_graph_def.nodes
    needed = any(node.WhichOneof("kind") == "variable" for node in nodes)
    index = path / "variables" / "variables.index"
    if needed and not index.is_file():
        raise RequestError(grpc.StatusCode.NOT_FOUND, f"{index} is missing: half-written?")


def _warmup_requests(path: Path) -> Iterator[Any]:
    import tensorflow as tf

    file = path / WARMUP_FILE
    if not file.is_file():
        return
    for i, record in enumerate(tf.data.TFRecordDataset(str(file)).as_numpy_iterator()):
        if i >= MAX_WARMUP_REQUESTS:
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{file} has more than {MAX_WARMUP_REQUESTS:,} requests",
            )
        log = PredictionLog.FromString(record)
        if log.HasField("predict_log"):
            yield log.predict_log.request


def release_memory() -> None:
    """Frees what models and large requests leave behind, and gives it back to the system."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def as_request_error(error: Exception) -> RequestError:
    """An error of TensorFlow's in its status and its own words, without where it was raised."""
    if isinstance(error, RequestError):
        return error
    code = getattr(error, "error_code", grpc.StatusCode.INTERNAL.value[0])
    text = str(getattr(error, "message", error))
    if isinstance(error, UnicodeDecodeError):
        # TensorFlow's words quote bytes of the request, and Python cannot read them.
        code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
        text = bytes(error.object).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if not _NOISE.fullmatch(line)]
    words = re.sub(r"\s*\[Op:\w+\]", "", lines[0]) if lines else type(error).__name__
    return RequestError(_CODES.get(code, grpc.StatusCode.INTERNAL), words)
