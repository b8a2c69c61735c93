"""An operator that tf2onnx lacks. Keras on TensorFlow writes ONNX files with tf2onnx."""

from functools import cache
from importlib.util import find_spec
from typing import Any

import keras
import numpy as np


@cache
def register_erfc() -> None:
    """Lets tf2onnx convert TensorFlow's Erfc, which GELU uses; ONNX has only Erf.

    Without it, tf2onnx (1.17) logs an error and writes a file that ONNX Runtime rejects. This does
    nothing on other backends, where Keras uses other packages, and nothing if tf2onnx is missing:
    Keras then says what to install.
    """
    if keras.backend.backend() != "tensorflow" or find_spec("tf2onnx") is None:
        return
    from tf2onnx.handler import tf_op

    tf_op("Erfc").register_compat_handler(_convert_erfc, 9)


def _convert_erfc(graph: Any, node: Any, **_: Any) -> None:
    """erfc(x) = 1 - erf(x)"""
    types = {"shapes": node.output_shapes, "dtypes": node.output_dtypes}
    graph.remove_node(node.name)
    one = graph.make_const(f"{node.name}_one", np.ones((), np.float32))
    erf = graph.make_node("Erf", node.input)
    inputs = [one.output[0], erf.output[0]]
    graph.make_node("Sub", inputs, name=node.name, outputs=node.output, **types)
