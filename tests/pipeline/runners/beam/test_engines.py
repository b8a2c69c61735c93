import argparse
import logging
import socket
import sys

import pytest

from keras_ae.errors import ConfigurationError
from pipeline.runners.beam import engines

IMAGE = "--sdk_container_image=registry.example/keras-ae"
PLUGIN = "--beam_plugin=tfx"
LOCAL_OPTIONS = ("--allow_unsafe_triggers", "--sdk_container_image=none")
CLOUD = ["--project=mine", "--region=europe-west1", "--temp_location=gs://mine/temp", IMAGE]


def test_the_flags_have_defaults_and_are_checked(capsys):
    parser = argparse.ArgumentParser()
    engines.add_arguments(parser)
    assert vars(parser.parse_args([])) == {"beam_runner": "direct", "workers": 1}
    chosen = parser.parse_args(["--beam-runner", "flink", "--workers", "3"])
    assert vars(chosen) == {"beam_runner": "flink", "workers": 3}
    for flags, text in (
        (["--workers", "0"], "expected a whole number from 1 to 1000; got '0'"),
        (["--workers", "two"], "got 'two'"),
        (["--beam-runner", "hadoop"], "invalid choice: 'hadoop'"),
    ):
        with pytest.raises(SystemExit):
            parser.parse_args(flags)
        assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "own", "passed"),
    [
        (["--seed", "1"], ["--seed", "1"], []),
        (["--seed", "1", "--"], ["--seed", "1"], []),
        (["--", "--a=b c", "--", "d"], [], ["--a=b c", "--", "d"]),
    ],
)
def test_a_bare_pair_of_dashes_begins_the_options_for_beam(words, own, passed):
    assert engines.split(words) == (own, passed)


def test_the_suffix_of_a_command_line_is_quoted_for_a_shell():
    assert engines.format_beam_options([]) == ""
    assert engines.format_beam_options(["--job_name=my job"]) == " -- '--job_name=my job'"


@pytest.mark.parametrize(
    ("runner", "workers", "passed", "arguments"),
    [
        ("direct", 1, [], ["--direct_running_mode=in_memory", *LOCAL_OPTIONS]),
        (
            "direct",
            2,
            [],
            [
                "--direct_running_mode=multi_processing",
                "--direct_num_workers=2",
                *LOCAL_OPTIONS,
                PLUGIN,
            ],
        ),
        (
            "direct",
            1,
            ["--temp_location", "/tmp/x"],
            [
                "--direct_running_mode=in_memory",
                *LOCAL_OPTIONS,
                "--temp_location",
                "/tmp/x",
            ],
        ),
        ("dataflow", 5, CLOUD, ["--runner=DataflowRunner", "--num_workers=5", PLUGIN, *CLOUD]),
        (
            "flink",
            4,
            ["--flink_master=host:8081", IMAGE],
            ["--runner=FlinkRunner", "--parallelism=4", PLUGIN, "--flink_master=host:8081", IMAGE],
        ),
        (
            "spark",
            1,
            ["--option_of_the_job_server", "x"],
            [
                "--runner=SparkRunner",
                "--spark_master_url=local[1]",
                PLUGIN,
                "--option_of_the_job_server",
                "x",
            ],
        ),
    ],
)
def test_each_engine_has_its_command_line(runner, workers, passed, arguments):
    # Nothing needs to be installed here if the steps run on other machines.
    assert engines.beam_arguments(runner, workers, passed, here=False) == arguments


@pytest.mark.parametrize(
    ("runner", "passed", "text"),
    [
        (
            "direct",
            ["--num_worker=3"],
            r"no option '--num_worker=3' .*did you mean --num_workers\?",
        ),
        (
            "direct",
            ["--no_pipeline_type_chek"],
            r"did you mean --no_pipeline_type_check\?",
        ),
        ("direct", ["--bogus"], "Beam has no option '--bogus' for the engine direct$"),
        ("direct", ["bogus"], "Beam has no option 'bogus'"),
        ("direct", ["--num_workers=two"], "argument --num_workers: invalid int value: 'two'"),
        ("direct", ["--runner=PrismRunner"], "give Beam's runner by --beam-runner"),
        ("flink", ["--flink_mastr=host:1"], r"did you mean --flink_master\?"),
        ("flink", ["--flink_master=host:1"], "need the project and its libraries: give --sdk_con"),
        ("spark", ["--spark_master_url=spark://host:1"], "--spark_master_url=spark://host:1 need"),
        ("dataflow", [], "--project=ID --region=REGION --temp_location=gs://BUCKET/FOLDER --sdk"),
        ("dataflow", CLOUD[:-1], "needs, after --: --sdk_container_image=IMAGE$"),
    ],
)
def test_an_option_that_is_wrong_or_missing_is_reported(runner, passed, text):
    with pytest.raises(ConfigurationError, match=text) as caught:
        engines.beam_arguments(runner, 1, passed, here=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("runner", "passed", "text"),
    [
        (
            "flink",
            ["--job_server_java_launcher=/no/java"],
            "flink needs Java .* no '/no/java' here: install Java 11 or 17, or give --job_endpoint",
        ),
        (
            "flink",
            ["--job_server_java_launcher=python3", "--flink_job_server_jar=/no/file.jar"],
            "/no/file.jar cannot be obtained .*: put file.jar into ~/.apache_beam/cache/jars, or "
            "give --flink_job_server_jar=FILE",
        ),
        (
            "spark",
            ["--job_server_java_launcher=python3", "--spark_job_server_jar=http://127.0.0.1:1/x"],
            "http://127.0.0.1:1/x cannot be obtained",
        ),
        ("spark", ["--job_endpoint=host"], "expected --job_endpoint=HOST:PORT; got 'host'"),
    ],
)
def test_what_is_not_installed_is_reported(runner, passed, text, tmp_path):
    passed = [*passed, f"--jar_cache_dir={tmp_path}"]
    with pytest.raises(ConfigurationError, match=text) as caught:
        engines.beam_arguments(runner, 1, passed)
    assert "\n" not in str(caught.value)


def test_a_job_server_that_does_not_answer_is_reported_at_once():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=f"no job server answers at {address}: "):
            engines.beam_arguments("flink", 1, [f"--job_endpoint={address}"])
        bound.listen()
        arguments = engines.beam_arguments("flink", 1, [f"--job_endpoint={address}"])
        assert arguments[-1] == f"--job_endpoint={address}"


def test_dataflow_without_its_client_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.cloud.dataflow", None)
    with pytest.raises(ConfigurationError, match=r"is not installed .* install apache-beam\[gcp\]"):
        engines.beam_arguments("dataflow", 1, CLOUD)


def test_dask_is_refused():
    with pytest.raises(ConfigurationError, match=r"dask cannot carry these steps: .*empty files"):
        engines.beam_arguments("dask", 2, [])


def test_checking_options_sets_up_no_logging(monkeypatch):
    # Beam adds no handler if there are those of pytest.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    engines.beam_arguments("direct", 1, ["--temp_location=/tmp/x"])
    assert logging.getLogger().handlers == []
