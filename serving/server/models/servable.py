"""A loaded SavedModel, whose signatures can be called."""

import gc
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from google.protobuf.message import DecodeError, Message
from grpc import StatusCode

from keras_ae import contract
from serving.server import memory
from serving.server.errors import RequestError, invalid
from serving.server.models.inputs import Inputs, check
from serving.wire.protos import (
    ModelSpec,
    PredictionLog,
    PredictRequest,
    SavedModel,
    SignatureDef,
)
from serving.wire.tensors import dtype_of

T = TypeVar("T")
Outputs = dict[str, np.ndarray]
"""Output name -> array; strings are object arrays of bytes."""
Convert = Callable[[ModelSpec, Outputs], T]
"""Makes an answer of the ModelSpec of the response and the outputs; called in a thread."""

MAX_WARMUP_REQUESTS = 1000
_STATUS_CODES = {code.value[0]: code for code in StatusCode}
_TRACE_LINE = re.compile(
    r"\s*(Graph execution error:|Detected at node .*|<stack traces unavailable>|File \".*"
    r"|\[\[\{\{node .*|\d+ root error\(s\) found\.)?\s*"
)


def signature_name(spec: ModelSpec) -> str:
    """Returns the name of the signature in a ModelSpec, which may be empty."""
    return str(spec.signature_name) or contract.SERVING_DEFAULT


def find_signature(signatures: Mapping[str, T], name: str) -> T:
    """Returns the signature of a name; raises RequestError FAILED_PRECONDITION without one."""
    if name not in signatures:
        names = ", ".join(sorted(signatures))
        message = f'Serving signature key "{name[:200]}" not found. Available: {names}'
        raise RequestError(StatusCode.FAILED_PRECONDITION, message)
    return signatures[name]


class Servable:
    """A loaded SavedModel, whose warm-up requests have run. All methods are thread-safe.

    Args:
        path: folder with `saved_model.pb`.

    Attributes:
        signatures: name -> SignatureDef.

    Raises:
        RequestError: if a file is missing or damaged, or a warm-up request fails.
        Exception: any exception that TensorFlow raises for a folder that it cannot load.
    """

    def __init__(self, path: Path):
        import tensorflow as tf

        meta_graph = _read_meta_graph(path)
        self.signatures: dict[str, SignatureDef] = dict(meta_graph.signature_def)
        _check_variables(path, meta_graph)
        self._model = tf.saved_model.load(str(path))
        self._functions = dict(self._model.signatures)
        self._pixels_per_position = self._measure_pixels_per_position()
        for request in _warmup_requests(path):
            self.run(self.check(request))

    def check(self, request: PredictRequest) -> Inputs:
        """Checks a request against its signature; raises RequestError."""
        name = signature_name(request.model_spec)
        signature = find_signature(self.signatures, name)
        find_signature(self._functions, name)
        return check(name, signature, request, self._pixels_per_position)

    def run(self, inputs: Inputs) -> Outputs:
        """Calls a signature; returns the requested outputs.

        Raises RequestError with the status and the message of TensorFlow's error.
        """
        import tensorflow as tf

        function = self._functions[inputs.signature]
        try:
            outputs = function(**{k: tf.constant(v) for k, v in inputs.arrays.items()})
            return {name: _to_array(name, outputs[name]) for name in inputs.outputs}
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise as_request_error(error) from error

    def _measure_pixels_per_position(self) -> int:
        """Returns how many pixels one position of the latents is decoded to; 1 without `decode`."""
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


def response_spec(request: PredictRequest, version: int, signature: str) -> ModelSpec:
    """Returns the ModelSpec of a response, with the version and the signature that answered."""
    return ModelSpec(
        name=request.model_spec.name, signature_name=signature, version={"value": version}
    )


def _to_array(name: str, tensor: Any) -> np.ndarray:
    try:
        dtype = dtype_of(tensor.dtype.as_datatype_enum)
    except ValueError as error:
        raise RequestError(StatusCode.UNIMPLEMENTED, f"output {name}: {error}") from error
    # TensorFlow converts a tensor of rank 0 to a scalar, and a string of rank 0 to bytes.
    return np.asarray(tensor.numpy(), dtype)


def _read_meta_graph(path: Path) -> Message:
    file = path / "saved_model.pb"
    try:
        saved_model = SavedModel.FromString(file.read_bytes())
    except OSError as error:
        raise RequestError(StatusCode.NOT_FOUND, f"cannot read {file}: {error}") from error
    except DecodeError as error:
        message = f"{file} is not a SavedModel: {error}"
        raise RequestError(StatusCode.DATA_LOSS, message) from error
    for meta_graph in saved_model.meta_graphs:
        if "serve" in meta_graph.meta_info_def.tags:
            return cast(Message, meta_graph)
    raise RequestError(StatusCode.NOT_FOUND, f"{file} has no graph with the tag 'serve'")


def _check_variables(path: Path, meta_graph: Message) -> None:
    # TensorFlow loads a model without its variables, and fails at the first request.
    nodes = meta_graph.object_graph_def.nodes
    has_variables = any(node.WhichOneof("kind") == "variable" for node in nodes)
    index = path / "variables" / "variables.index"
    if has_variables and not index.is_file():
        message = f"{index} is missing: is the version copied completely?"
        raise RequestError(StatusCode.NOT_FOUND, message)


def _warmup_requests(path: Path) -> Iterator[PredictRequest]:
    import tensorflow as tf

    file = path / contract.WARMUP_FILE
    if not file.is_file():
        return
    for i, record in enumerate(tf.data.TFRecordDataset(str(file)).as_numpy_iterator()):
        if i >= MAX_WARMUP_REQUESTS:
            raise invalid(f"{file} has more than {MAX_WARMUP_REQUESTS:,} requests")
        log = PredictionLog.FromString(record)
        if log.HasField("predict_log"):
            yield log.predict_log.request


def release_memory() -> None:
    """Frees the memory of unloaded models and large requests, and returns it to the system."""
    gc.collect()
    memory.trim()


def as_request_error(error: Exception) -> RequestError:
    """Converts an error of TensorFlow; keeps its status and message, without the stack trace."""
    if isinstance(error, RequestError):
        return error
    code = getattr(error, "error_code", StatusCode.INTERNAL.value[0])
    text = str(getattr(error, "message", error))
    if isinstance(error, UnicodeDecodeError):
        # TensorFlow's message quotes bytes of the request that are not UTF-8.
        code = StatusCode.INVALID_ARGUMENT.value[0]
        text = bytes(error.object).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if not _TRACE_LINE.fullmatch(line)]
    message = re.sub(r"\s*\[Op:\w+\]", "", lines[0]) if lines else type(error).__name__
    return RequestError(_STATUS_CODES.get(code, StatusCode.INTERNAL), message)
