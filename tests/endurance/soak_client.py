"""The soak's client: asks a server without a pause for longer than a fifth of a second.

    python -m tests.endurance.soak_client TARGET

Begins when the server has a model, and goes on until a line is sent to it. Then prints, as JSON,
how many `requests` there were, how many were answered by each of the `versions`, and what the
others' `failures` were.
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
from serving.wire.tensors import to_array
from tests.endurance import hostile

PAUSE, TIMEOUT = 0.2, 60.0
SIZES = ((48, 64), (64, 64), (77, 131))


def main() -> None:
    """Asks until it is told to stop."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (2, *size, 3), np.uint8) for size in SIZES]
    requests = [hostile.request(c.RECONSTRUCT, **{c.IMAGES: hostile.to_proto(i)}) for i in images]
    versions: Counter[int] = Counter()
    failures: list[str] = []
    count = 0
    with ReconstructionClient(sys.argv[1]) as client:
        client.wait_until_ready()
    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = services.stub(services.PREDICTION, channel)
        while not select.select([sys.stdin], [], [], PAUSE)[0]:
            which = count % len(SIZES)
            count += 1
            try:
                response = stub.Predict(requests[which], timeout=TIMEOUT)
            except grpc.RpcError as error:
                failures.append(f"{error.code().name}: {error.details()}")
                continue
            answer = to_array(response.outputs[c.RECONSTRUCTIONS])
            if answer.shape != images[which].shape:
                failures.append(f"an answer of shape {answer.shape}")
            versions[response.model_spec.version.value] += 1
    print(json.dumps({"requests": count, "versions": versions, "failures": failures}))


if __name__ == "__main__":
    main()
