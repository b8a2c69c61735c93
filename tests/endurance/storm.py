"""Requests to one server, and the check that a good one still has the same response."""

from pathlib import Path

import grpc
import numpy as np
from PIL import Image

from keras_ae import contract as c
from serving.wire import services
from serving.wire.protos import PredictRequest
from serving.wire.tensors import to_array, to_proto
from tests.corpus.pictures import encoded
from tests.endurance import hostile

TIMEOUT_SECONDS = 60
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class StressError(Exception):
    """A response or a state of the server that is wrong."""


class Storm:
    """Requests to one server, with a check that a good request still has the same response.

    Args:
        target: "HOST:PORT" of gRPC.
        url: URL of REST up to the port.
        pid: the server's process.
        photograph: RGB image of the good request.
    """

    def __init__(self, target: str, url: str, pid: int, photograph: Image.Image):
        self.url, self._pid = url, pid
        self.photograph = photograph.resize((96, 64))
        self._good = encoded(self.photograph, "PNG")
        channel = grpc.insecure_channel(target, OPTIONS)
        self._predict = services.stub(services.PREDICTION, channel).Predict
        self.expected = self.predict([self._good])

    def predict(self, images: list[bytes]) -> dict[str, np.ndarray]:
        """The outputs of `serving_default` for encoded images."""
        return self.send(hostile.request(c.SERVING_DEFAULT, **{c.IMAGE_BYTES: to_proto(images)}))

    def send(self, request: PredictRequest) -> dict[str, np.ndarray]:
        """The outputs of a request; raises grpc.RpcError."""
        response = self._predict(request, timeout=TIMEOUT_SECONDS)
        return {name: to_array(tensor) for name, tensor in response.outputs.items()}

    def version(self, request: PredictRequest) -> int:
        """The version that responds to a request."""
        return int(self._predict(request, timeout=TIMEOUT_SECONDS).model_spec.version.value)

    def check_good(self, after: str) -> None:
        """Raises StressError unless the good request has the response that it had at first."""
        outputs = self.predict([self._good])
        for name, expected in self.expected.items():
            if not np.array_equal(outputs[name], expected, equal_nan=expected.dtype != object):
                raise StressError(f"after {after} the good request has another {name}")

    def memory(self) -> int:
        """Resident bytes of the server."""
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
