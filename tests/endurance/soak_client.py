"""The client of the soak test: sends a request to a server every fifth of a second.

    python -m tests.endurance.soak_client TARGET

Begins when the server has a model, and stops when it receives a line on standard input. Then
prints, as JSON, the number of `requests`, the number of responses by each of the `versions`, and
the messages of the `failures`.
"""

import json
import select
import sys
from collections import Counter

import grpc
import numpy as np

from keras_ae import contract as c
from serving.client.blocking import ReconstructionClient
from serving.wire import services
from serving.wire.tensors import to_array, to_proto
from tests.endurance import hostile

PAUSE_SECONDS, TIMEOUT_SECONDS = 0.2, 60.0
SIZES = ((48, 64), (64, 64), (77, 131))


def main() -> None:
    """Sends requests until a line arrives, then prints the counts."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (2, *size, 3), np.uint8) for size in SIZES]
    requests = [hostile.request(c.RECONSTRUCT, **{c.IMAGES: to_proto(i)}) for i in images]
    versions: Counter[int] = Counter()
    failures: list[str] = []
    count = 0
    with ReconstructionClient(sys.argv[1]) as client:
        client.wait_until_ready()
    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = services.stub(services.PREDICTION, channel)
        while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
            index = count % len(SIZES)
            count += 1
            try:
                response = stub.Predict(requests[index], timeout=TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                failures.append(f"{error.code().name}: {error.details()}")
                continue
            reconstructions = to_array(response.outputs[c.RECONSTRUCTIONS])
            if reconstructions.shape != images[index].shape:
                failures.append(
                    f"expected reconstructions of shape {images[index].shape}; "
                    f"got {reconstructions.shape}"
                )
            versions[response.model_spec.version.value] += 1
    print(json.dumps({"requests": count, "versions": versions, "failures": failures}))


if __name__ == "__main__":
    main()
