import pytest
import yaml
from kfp.components import load_component_from_file
from tfx.dsl.compiler import compiler
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from pipeline.definition import create_pipeline


def make_pipeline(**arguments):
    return create_pipeline(
        **{
            "pipeline_name": "keras-ae-test",
            "pipeline_root": "gs://bucket/root",
            "data": "gs://bucket/images.zip",
            "data_fingerprint": "0123",
            "push_destination": "gs://bucket/serving",
            "checkpoints": "gs://bucket/checkpoints",
            "budgets": (10, 100),
            **arguments,
        }
    )


@pytest.mark.parametrize("in_service", [None, "gs://bucket/model"])
def test_the_pipeline_compiles_for_kubeflow(tmp_path, in_service):
    path = tmp_path / "pipeline.yaml"
    config = kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
        default_image="keras-ae:latest", use_pipeline_spec_2_1=True
    )
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        config, output_dir=str(tmp_path), output_filename=path.name
    )
    runner.run(make_pipeline(in_service=in_service), write_out=True)
    spec = next(yaml.safe_load_all(path.read_text()))
    assert spec["schemaVersion"] == "2.1.0"
    tasks = spec["root"]["dag"]["tasks"]
    expected = {
        "ImageExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform",
        "Trainer_10", "Trainer_100", "BudgetComparison", "Evaluator", "Pusher",
    }  # fmt: skip
    assert set(tasks) == expected | ({"ModelInService"} if in_service else set())
    assert "Trainer_10" in tasks["Trainer_100"]["dependentTasks"]
    # What the open-source backend does not run.
    assert "preCacheCheck" not in path.read_text()
    load_component_from_file(str(path))


def test_a_longer_ladder_leaves_the_nodes_that_it_shares_as_they_are():
    def nodes(budgets):
        compiled = compiler.Compiler().compile(make_pipeline(budgets=budgets))
        return {n.pipeline_node.node_info.id: n.pipeline_node for n in compiled.nodes}

    short, long = nodes((10, 100)), nodes((10, 100, 500))
    assert set(long) - set(short) == {"Trainer_500"}
    for name in ("ImageExampleGen", "Transform", "Trainer_10", "Trainer_100"):
        assert short[name].parameters == long[name].parameters
        assert short[name].inputs == long[name].inputs
