import json

import pytest
import yaml
from kfp.components import load_component_from_file
from tfx.dsl.compiler import compiler
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from keras_ae import presets
from keras_ae.errors import ConfigurationError
from keras_ae.tuning.search_space import SearchSpace
from pipeline.components.budget_comparison import keys
from pipeline.definition import create_pipeline
from pipeline.runners.local.runner import depth_first
from pipeline.runtime.run_config import RunConfig


def make_pipeline(*, in_service=None, command="", check_command=(), **settings):
    return create_pipeline(
        RunConfig(**{"data": "gs://bucket/images.zip", "budgets": (10, 100), **settings}),
        pipeline_name="keras-ae-test",
        pipeline_root="gs://bucket/root",
        data_fingerprint="0123",
        push_destination="gs://bucket/serving",
        checkpoints="gs://bucket/checkpoints",
        in_service=in_service,
        command=command,
        check_command=check_command,
    )


@pytest.mark.parametrize("tune", [0, 2])
@pytest.mark.parametrize("in_service", [None, "gs://bucket/model"])
def test_the_pipeline_compiles_for_kubeflow(tmp_path, in_service, tune):
    path = tmp_path / "pipeline.yaml"
    config = kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
        default_image="keras-ae:latest", use_pipeline_spec_2_1=True
    )
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        config, output_dir=str(tmp_path), output_filename=path.name
    )
    runner.run(make_pipeline(in_service=in_service, tune=tune), write_out=True)
    spec = next(yaml.safe_load_all(path.read_text()))
    assert spec["schemaVersion"] == "2.1.0"
    tasks = spec["root"]["dag"]["tasks"]
    expected = {
        "ImageExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform",
        "Trainer_10", "Trainer_100", "BudgetComparison", "Evaluator", "ServingCheck", "Report",
        "Pusher",
    }  # fmt: skip
    optional = ({"ModelInService"} if in_service else set()) | ({"Tuner"} if tune else set())
    assert set(tasks) == expected | optional
    assert "Trainer_10" in tasks["Trainer_100"]["dependentTasks"]
    for name in ("Trainer_10", "Trainer_100", "BudgetComparison"):
        assert ("Tuner" in tasks[name]["dependentTasks"]) == bool(tune)
    # The open-source backend does not support it.
    assert "preCacheCheck" not in path.read_text()
    load_component_from_file(str(path))


def nodes(**arguments):
    compiled = compiler.Compiler().compile(make_pipeline(**arguments))
    return {n.pipeline_node.node_info.id: n.pipeline_node for n in compiled.nodes}


def test_a_longer_ladder_leaves_the_nodes_that_it_shares_as_they_are():
    short, long = nodes(budgets=(10, 100)), nodes(budgets=(10, 100, 500))
    assert set(long) - set(short) == {"Trainer_500"}
    for name in ("ImageExampleGen", "Transform", "Trainer_10", "Trainer_100"):
        assert short[name].parameters == long[name].parameters
        assert short[name].inputs == long[name].inputs


def test_each_further_seed_and_the_baseline_have_a_ladder_of_their_own():
    plain, many = nodes(seed=3), nodes(seed=3, seeds=3, with_baseline=True, tune=1)
    ladders = {
        "Trainer_10": "Trainer_100",
        "Trainer_10_seed_4": "Trainer_100_seed_4",
        "Trainer_10_seed_5": "Trainer_100_seed_5",
        "Trainer_baseline_10": "Trainer_baseline_100",
    }
    trainers = {name for name in many if name.startswith("Trainer")}
    assert trainers == {*ladders, *ladders.values()}
    for first, second in ladders.items():
        (channel,) = many[second].inputs.inputs["base_model"].channels
        assert channel.producer_node_query.id == first
        assert ("hyperparameters" in many[first].inputs.inputs) == ("baseline" not in first)
    assert plain["Trainer_10"].parameters == many["Trainer_10"].parameters
    parameters = {name: many[name].parameters.parameters for name in trainers}
    assert [parameters[name]["seed"].field_value.int_value for name in ladders] == [3, 4, 5, 3]
    names = [parameters[name]["preset"].field_value.string_value for name in ladders]
    assert names == [*["medium"] * 3, "baseline"]


def test_the_comparison_gets_every_model_under_its_key():
    node = nodes(seed=3, seeds=2, with_baseline=True)["BudgetComparison"]
    producers = {
        key: value.channels[0].producer_node_query.id for key, value in node.inputs.inputs.items()
    }
    assert producers == {
        "examples": "ImageExampleGen",
        "model_10": "Trainer_10",
        "model_100": "Trainer_100",
        "model_10_seed_4": "Trainer_10_seed_4",
        "model_100_seed_4": "Trainer_100_seed_4",
        "baseline_10": "Trainer_baseline_10",
        "baseline_100": "Trainer_baseline_100",
    }
    ladders = keys.ladders(node.parameters.parameters["models"].field_value.string_value)
    inputs = {
        ladder: [{budget: key.input for budget, key in by_budget.items()} for by_budget in seeds]
        for ladder, seeds in ladders.items()
    }
    assert list(inputs) == ["model", "baseline"]
    assert inputs == {
        "model": [
            {10: "model_10", 100: "model_100"},
            {10: "model_10_seed_4", 100: "model_100_seed_4"},
        ],
        "baseline": [{10: "baseline_10", 100: "baseline_100"}],
    }


def test_the_report_waits_for_everything_that_it_describes():
    mlflow = {"mlflow_uri": "http://127.0.0.1:5000", "mlflow_experiment": "ours"}
    tracked = nodes(seeds=2, in_service="gs://bucket/model", command="run --it", **mlflow)
    node = tracked["Report"]
    assert set(node.upstream_nodes) == {
        "ImageExampleGen", "SchemaGen", "Transform", "BudgetComparison", "Evaluator",
        "ServingCheck", "ModelInService",
        "Trainer_10", "Trainer_100", "Trainer_10_seed_1", "Trainer_100_seed_1",
    }  # fmt: skip
    parameters = {
        name: value.field_value.string_value for name, value in node.parameters.parameters.items()
    }
    assert parameters["command"] == "run --it"
    assert json.loads(parameters["mlflow"]) == mlflow
    assert parameters["data_fingerprint"] == "0123"
    plain = nodes()["Report"]
    assert "in_service" not in plain.inputs.inputs
    untracked = json.loads(plain.parameters.parameters["mlflow"].field_value.string_value)
    assert untracked["mlflow_uri"] is None


def test_a_baseline_is_not_compared_with_itself():
    with pytest.raises(ConfigurationError, match="needs a --preset other than baseline"):
        nodes(preset="baseline", with_baseline=True)


@pytest.mark.parametrize("tune", [0, 1])
def test_on_one_machine_the_stages_of_a_ladder_follow_each_other(tune):
    pipeline = make_pipeline(seeds=2, with_baseline=True, tune=tune, in_service="gs://bucket/model")
    compiled = list(compiler.Compiler().compile(pipeline).nodes)
    ordered = [node.pipeline_node for node in depth_first(compiled)]
    names = [node.node_info.id for node in ordered]
    assert sorted(names) == sorted(node.pipeline_node.node_info.id for node in compiled)
    for i, node in enumerate(ordered):
        assert set(node.upstream_nodes) <= set(names[:i])
    for first, second in (
        ("Trainer_10", "Trainer_100"),
        ("Trainer_10_seed_1", "Trainer_100_seed_1"),
        ("Trainer_baseline_10", "Trainer_baseline_100"),
    ):
        assert names.index(second) == names.index(first) + 1


@pytest.mark.parametrize("replace", [False, True])
def test_with_replace_the_model_in_service_is_known_and_not_compared(replace):
    replaced = nodes(in_service="push/7", replace=replace)
    assert ("baseline_model" in replaced["Evaluator"].inputs.inputs) != replace
    assert "in_service" in replaced["Report"].inputs.inputs
    limits = replaced["Report"].parameters.parameters["limits"].field_value.string_value
    assert json.loads(limits)["replace"] is replace
    assert custom_config(replaced["Pusher"]) == {"in_service": "push/7"}
    assert custom_config(nodes()["Pusher"]) == {"in_service": ""}


def custom_config(node) -> dict:
    return json.loads(node.parameters.parameters["custom_config"].field_value.string_value)


def test_tuning_adds_a_tuner_whose_hyperparameters_all_trainers_get():
    plain, tuned = nodes(), nodes(tune=2, tune_epochs=3, tune_parameters=50_000, seed=4)
    assert set(tuned) - set(plain) == {"Tuner"}
    config = custom_config(tuned["Tuner"])
    expected = {"trials": 2, "epochs": 3, "parameters": 50_000, "seed": 4}
    assert {name: config[name] for name in expected} == expected
    assert len(config["fingerprint"]) == 16
    for name in ("Trainer_10", "Trainer_100"):
        assert "hyperparameters" not in plain[name].inputs.inputs
        (channel,) = tuned[name].inputs.inputs["hyperparameters"].channels
        assert channel.producer_node_query.id == "Tuner"
        assert channel.output_key == "best_hyperparameters"
    (channel,) = tuned["BudgetComparison"].inputs.inputs["tuner_results"].channels
    assert channel.producer_node_query.id == "Tuner"
    assert "tuner_results" not in plain["BudgetComparison"].inputs.inputs


def test_trials_have_as_many_parameters_as_the_preset_by_default():
    space = SearchSpace(presets.get(presets.DEFAULT))
    assert custom_config(nodes(tune=1)["Tuner"])["parameters"] == space.parameters
    grey = custom_config(nodes(tune=1, channels=1)["Tuner"])
    assert grey["parameters"] < space.parameters
    with pytest.raises(ConfigurationError, match="got baseline"):
        nodes(tune=1, preset="baseline")


def test_the_tile_affects_only_the_trainers_and_the_serving_check():
    plain, other = nodes(tune=1), nodes(tune=1, tile=256)
    differing = {name for name in plain if plain[name].parameters != other[name].parameters}
    assert differing == {"Trainer_10", "Trainer_100", "ServingCheck"}
    assert custom_config(other["Trainer_10"])["tile"] == 256


def test_the_size_of_the_latent_affects_only_what_computes_with_it():
    plain, other = nodes(tune=1), nodes(tune=1, latent_channels=4)
    differing = {name for name in plain if plain[name].parameters != other[name].parameters}
    assert differing == {"Tuner", "Trainer_10", "Trainer_100", "BudgetComparison"}
    other = nodes(tune=1, stride=4)
    differing = {name for name in plain if plain[name].parameters != other[name].parameters}
    assert differing == {
        "ImageExampleGen", "Transform", "Tuner", "Trainer_10", "Trainer_100", "BudgetComparison"
    }  # fmt: skip
    for name in ("Tuner", "Trainer_10", "Trainer_100"):
        assert custom_config(other[name])["stride"] == 4
        assert custom_config(other[name])["latent_channels"] == 8


def test_the_pusher_waits_for_the_serving_check():
    checked = nodes(check_command=["serve-and-compare", "--fast"])
    (channel,) = checked["Pusher"].inputs.inputs["infra_blessing"].channels
    assert channel.producer_node_query.id == "ServingCheck"
    command = checked["ServingCheck"].parameters.parameters["command"].field_value.string_value
    assert json.loads(command) == ["serve-and-compare", "--fast"]
