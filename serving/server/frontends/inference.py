"""Classify, Regress and MultiInference: the errors of TensorFlow Serving for other signatures.

A signature that they could answer is refused with UNIMPLEMENTED: Predict answers it as well.
"""

from typing import NoReturn

from google.protobuf.message import Message
from grpc import StatusCode

from serving.server.errors import RequestError, invalid
from serving.server.models.manager import Manager, spec_of
from serving.server.models.servable import signature_name
from serving.wire.protos import ModelSpec, SignatureDef


def refuse(manager: Manager, api: str, spec: ModelSpec) -> NoReturn:
    """Raises the RequestError of a request to classify or to regress, as `api` says."""
    signatures, name = manager.signatures(spec), signature_name(spec)
    if name not in signatures:
        raise invalid(f"No signature was found with the name: {name}")
    _CHECKS[f"tensorflow/serving/{api.lower()}"](signatures[name])
    raise _unsupported(api)


def refuse_request(manager: Manager, api: str, request: Message) -> NoReturn:
    """Raises the RequestError of a ClassificationRequest or RegressionRequest."""
    refuse(manager, api, spec_of(request))


def multi_inference(manager: Manager, request: Message) -> NoReturn:
    """Raises the RequestError of a MultiInferenceRequest."""
    tasks = request.tasks
    model = tasks[0].model_spec if tasks else ModelSpec()
    signatures = manager.signatures(model)
    names: set[str] = set()
    for task in tasks:
        name = signature_name(task.model_spec)
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if task.model_spec.name != model.name:
            raise invalid(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        if name in names:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        names.add(name)
        if name not in signatures:
            raise invalid(f"Requested signature not found in model graph: {name}")
        if task.method_name not in _CHECKS:
            message = f"Unsupported signature method_name: {task.method_name}"
            raise RequestError(StatusCode.UNIMPLEMENTED, message)
        _CHECKS[task.method_name](signatures[name])
    raise _unsupported("MultiInference")


def _unsupported(api: str) -> RequestError:
    message = f"{api} is not supported: call Predict instead"
    return RequestError(StatusCode.UNIMPLEMENTED, message)


def _check_classification(signature: SignatureDef) -> None:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {signature}")
    if not {"classes", "scores"} & set(signature.outputs):
        raise invalid(
            "Expected classification signature outputs to contain at least one of "
            f'"classes" or "scores". Signature was: {signature}'
        )


def _check_regression(signature: SignatureDef) -> None:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {signature}")
    if "outputs" not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {signature}")


_CHECKS = {
    "tensorflow/serving/classify": _check_classification,
    "tensorflow/serving/regress": _check_regression,
}
