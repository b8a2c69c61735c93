"""What each container of the compiled pipeline runs: TFX's own entry point, and around it what the
open-source backend of Kubeflow Pipelines would otherwise stumble over.

- Its driver hands over input artifacts without their types, which TFX cannot do without. They are
  in the component's inputs, which the command line has.
- Its launcher downloads a node's inputs, and fails on the objects of no bytes that TensorFlow
  leaves in a bucket for each folder (kubeflow/pipelines, issue 13476). They are removed.
"""

import argparse
import logging
from collections.abc import Iterable
from urllib.parse import urlsplit

from absl import app
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor as tfx_entrypoint

from pipeline.runtime import loopback

COMMAND = ("python", "-m", "pipeline.runners.kubeflow.entrypoint")
"""Of the containers; TFX adds the arguments."""


def main(parsed: tuple[argparse.Namespace, list[str]]) -> None:
    """Runs an executor.

    Args:
        parsed: TFX's arguments, and those of Beam.
    """
    arguments, beam_arguments = parsed
    told = typed(
        arguments.json_serialized_invocation_args, arguments.json_serialized_inputs_spec_args
    )
    arguments.json_serialized_invocation_args = json_format.MessageToJson(told)
    with loopback.only():
        tfx_entrypoint.main((arguments, beam_arguments))
    made = [artifact.uri for each in told.outputs.artifacts.values() for artifact in each.artifacts]
    remove_markers(made)


def typed(invocation: str, inputs_spec: str) -> pipeline_spec_pb2.ExecutorInput:
    """Gives each input artifact the type that its component declares.

    Args:
        invocation: an ExecutorInput as JSON.
        inputs_spec: the component's ComponentInputsSpec as JSON.
    """
    told = pipeline_spec_pb2.ExecutorInput()
    json_format.Parse(invocation, told, ignore_unknown_fields=True)
    spec = pipeline_spec_pb2.ComponentInputsSpec()
    json_format.Parse(inputs_spec, spec, ignore_unknown_fields=True)
    for name, several in told.inputs.artifacts.items():
        for artifact in several.artifacts:
            artifact.type.CopyFrom(spec.artifacts[name].artifact_type)
    return told


def remove_markers(uris: Iterable[str]) -> None:
    """Removes the objects that stand for folders below some places in Google Cloud Storage.

    Places elsewhere are left alone.
    """
    for uri in uris:
        place = urlsplit(uri)
        if place.scheme != "gs":
            continue
        from google.cloud import storage

        prefix = place.path.strip("/") + "/"
        # The project has no part in this, and the client would look for one.
        blobs = storage.Client(project="none").list_blobs(place.netloc, prefix=prefix)
        markers = [blob for blob in blobs if blob.name.endswith("/") and not blob.size]
        for marker in markers:
            marker.delete()
        logging.info("removed %d markers of folders below %s", len(markers), uri)


if __name__ == "__main__":
    app.run(main, flags_parser=tfx_entrypoint._parse_flags)
