"""Each patch of TFX: the fault of the unpatched TFX, and that the patch removes it."""

import inspect
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import tfx
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.dsl.compiler import compiler
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import Metadata, sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import cache_utils, launcher
from tfx.proto.orchestration import executable_spec_pb2, pipeline_pb2
from tfx.types import standard_artifacts

from pipeline.runners import tfx_patches

PATCHES = {
    name: function.__doc__
    for name, function in inspect.getmembers(tfx_patches, inspect.isfunction)
    if function.__module__ == tfx_patches.__name__ and not name.startswith("_")
}


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_names_the_installed_version_its_reason_and_its_end(name):
    for text in (f"Written for: tfx {tfx.__version__}.", "Reason: ", "Remove when: "):
        assert text in PATCHES[name]


@component
def Producer(model: OutputArtifact[standard_artifacts.Model]):  # noqa: N802
    Path(model.uri).mkdir(parents=True, exist_ok=True)
    Path(model.uri, "model").write_text("the same in each run")


@component
def Consumer(  # noqa: N802
    model: InputArtifact[standard_artifacts.Model],
    copy: OutputArtifact[standard_artifacts.Model],
    fails: Parameter[int],
):
    if fails:
        raise ValueError("the consumer fails")
    Path(copy.uri).mkdir(parents=True, exist_ok=True)
    Path(copy.uri, "model").write_text(Path(model.uri, "model").read_text())


def run(root: Path, *, fails: int = 0) -> list[tuple]:
    """Runs a producer, which is never cached, and a consumer; returns what was observed."""
    producer = Producer()
    consumer = Consumer(model=producer.outputs["model"], fails=fails)
    compiled = compiler.Compiler().compile(
        Pipeline(
            "pipeline",
            str(root / "artifacts"),
            components=[producer, consumer],
            enable_cache=True,
            metadata_connection_config=sqlite_metadata_connection_config(str(root / "metadata")),
        )
    )
    first = compiled.nodes[0].pipeline_node
    first.execution_options.caching_options.enable_cache = False
    events = []
    with tfx_patches.nodes_observed(
        lambda node: events.append((node,)), lambda *finished: events.append(finished)
    ):
        if fails:
            with pytest.raises(Exception, match="the consumer fails"):
                LocalDagRunner().run_with_ir(compiled)
        else:
            LocalDagRunner().run_with_ir(compiled)
    return events


def by_content(inputs):
    """The inputs with their contents instead of their records in ML Metadata."""

    def content(artifact):
        return SimpleNamespace(
            mlmd_artifact=mlmd.Artifact(uri=Path(artifact.uri, "model").read_text())
        )

    return {key: list(map(content, artifacts)) for key, artifacts in inputs.items()}


def test_an_input_that_was_written_again_with_the_same_content_is_cached(tmp_path):
    def consumer_is_cached(patch) -> bool:
        with patch:
            return run(tmp_path)[-1] == ("Consumer", True)

    assert not any(consumer_is_cached(nullcontext()) for _ in range(2))
    assert not consumer_is_cached(tfx_patches.cache_keys_from(by_content))
    assert consumer_is_cached(tfx_patches.cache_keys_from(by_content))


def test_nodes_are_observed_as_they_start_and_succeed(tmp_path):
    original = launcher.Launcher
    assert run(tmp_path) == [
        ("Producer",),
        ("Producer", False),
        ("Consumer",),
        ("Consumer", False),
    ]
    assert run(tmp_path, fails=1) == [("Producer",), ("Producer", False), ("Consumer",)]
    assert launcher.Launcher is original


def test_the_local_runner_has_no_hooks_and_takes_no_operators():
    assert list(inspect.signature(LocalDagRunner).parameters) == []
    parameters = inspect.signature(LocalDagRunner.run_with_ir).parameters
    assert list(parameters) == ["self", "pipeline", "run_options"]


def beam_spec(*arguments: str) -> executable_spec_pb2.BeamExecutableSpec:
    spec = executable_spec_pb2.BeamExecutableSpec()
    spec.python_executor_spec.class_path = "tfx.components.Evaluator"
    spec.beam_pipeline_args_placeholders.extend(map(tfx_patches._literal, arguments))
    return spec


def test_beam_arguments_enter_the_cache_key_of_a_node(tmp_path):
    with Metadata(sqlite_metadata_connection_config(str(tmp_path / "metadata"))) as handle:
        keys = {
            cache_utils.get_cache_context(
                metadata_handle=handle,
                pipeline_node=pipeline_pb2.PipelineNode(),
                pipeline_info=pipeline_pb2.PipelineInfo(id="pipeline"),
                executor_spec=beam_spec(argument),
            ).name
            for argument in ("--direct_num_workers=1", "--direct_num_workers=2")
        }
    assert len(keys) == 2


def test_beam_arguments_are_those_of_the_run_within_the_block():
    spec = beam_spec("--compiled")

    def launched() -> list[str]:
        operator = launcher.DEFAULT_EXECUTOR_OPERATORS[type(spec)](spec)
        return [argument.value.string_value for argument in operator.beam_pipeline_args]

    with tfx_patches.beam_arguments_replaced(["--of-this-run", "--x"]):
        assert launched() == ["--of-this-run", "--x"]
    assert launched() == ["--compiled"]


def test_the_command_line_of_a_container_is_parsed_as_tfx_expects_it():
    assert list(inspect.signature(kubeflow_v2_run_executor.main).parameters) == ["parsed_argv"]
    words = ["program", "--executor_class_path=a.B", "--json_serialized_invocation_args={}"]
    words += ["--json_serialized_inputs_spec_args={1}", "--runner=DirectRunner"]
    arguments, beam_arguments = tfx_patches.parse_container_arguments(words)
    assert vars(arguments) == {
        "executor_class_path": "a.B",
        "json_serialized_invocation_args": "{}",
        "json_serialized_inputs_spec_args": "{1}",
    }
    assert beam_arguments[-1] == "--runner=DirectRunner"
