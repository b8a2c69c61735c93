"""The entry point of each container of the compiled pipeline: TFX's own, with two workarounds for
the open-source backend of Kubeflow Pipelines.

- The backend's driver passes input artifacts without their types, which TFX needs. They are added
  from the specification of the component's inputs, which is on the command line as well.
- The backend's launcher downloads a node's inputs, and fails on the empty objects that TensorFlow
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

from pipeline.runners import beam_patches, tfx_patches

COMMAND = ("python", "-m", "pipeline.runners.kubeflow.entrypoint")
"""The containers' command, to which TFX adds the arguments."""


def main(parsed: tuple[argparse.Namespace, list[str]]) -> None:
    """Runs an executor with TFX's arguments and those for Beam."""
    arguments, beam_arguments = parsed
    executor_input = typed(
        arguments.json_serialized_invocation_args, arguments.json_serialized_inputs_spec_args
    )
    arguments.json_serialized_invocation_args = json_format.MessageToJson(executor_input)
    with beam_patches.servers_on_loopback():
        tfx_entrypoint.main((arguments, beam_arguments))
    outputs = executor_input.outputs.artifacts.values()
    remove_markers(artifact.uri for output in outputs for artifact in output.artifacts)


def typed(invocation: str, inputs_spec: str) -> pipeline_spec_pb2.ExecutorInput:
    """Gives each input of an ExecutorInput the type in a ComponentInputsSpec; both are JSON."""
    executor_input = pipeline_spec_pb2.ExecutorInput()
    json_format.Parse(invocation, executor_input, ignore_unknown_fields=True)
    spec = pipeline_spec_pb2.ComponentInputsSpec()
    json_format.Parse(inputs_spec, spec, ignore_unknown_fields=True)
    for name, artifacts in executor_input.inputs.artifacts.items():
        for artifact in artifacts.artifacts:
            artifact.type.CopyFrom(spec.artifacts[name].artifact_type)
    return executor_input


def remove_markers(uris: Iterable[str]) -> None:
    """Removes the empty objects that stand for folders below URIs in Google Cloud Storage.

    What is not at gs:// is left alone.
    """
    for uri in uris:
        location = urlsplit(uri)
        if location.scheme != "gs":
            continue
        from google.cloud import storage

        prefix = location.path.strip("/") + "/"
        # No project is needed to list objects, and without a name the client looks for one.
        blobs = storage.Client(project="none").list_blobs(location.netloc, prefix=prefix)
        markers = [blob for blob in blobs if blob.name.endswith("/") and not blob.size]
        for marker in markers:
            marker.delete()
        logging.info("removed %d markers of folders below %s", len(markers), uri)


if __name__ == "__main__":
    app.run(main, flags_parser=tfx_patches.parse_container_arguments)
