import re

import pytest

from serving.server import flags

BASE = ("--model_base_path=/models/m",)
REAL_FLAGS = """
port grpc_socket_path rest_api_port rest_api_num_threads rest_api_timeout_in_ms
rest_api_enable_cors_support enable_batching allow_version_labels_for_unavailable_models
batching_parameters_file enable_per_model_batching_parameters model_config_file
model_config_file_poll_wait_seconds model_name model_base_path num_load_threads num_unload_threads
max_num_load_retries load_retry_interval_micros file_system_poll_wait_seconds
flush_filesystem_caches tensorflow_session_parallelism tensorflow_session_config_file
tensorflow_intra_op_parallelism tensorflow_inter_op_parallelism use_alts_credentials
ssl_config_file platform_config_file per_process_gpu_memory_fraction saved_model_tags
grpc_channel_arguments grpc_max_threads enable_model_warmup num_request_iterations_for_warmup
version monitoring_config_file remove_unused_fields_from_bundle_metagraph prefer_tflite_model
num_tflite_pools num_tflite_interpreters_per_pool enable_signature_method_name_check
xla_cpu_compilation_enabled xla_gpu_compilation_enabled enable_profiler
thread_pool_factory_config_file mixed_precision skip_initialize_tpu
enable_grpc_healthcheck_service enable_serialization_as_tensor_content
"""


def refused(capsys, *argv):
    """Returns the one line of the error message for a command line."""
    with pytest.raises(SystemExit) as caught:
        flags.parse(argv)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_defaults_are_those_of_the_real_server():
    parsed = flags.parse(BASE)
    [model] = parsed.models.model_config_list.config
    assert (model.name, model.base_path) == ("default", "/models/m")
    assert (parsed.port, parsed.rest_port, parsed.socket_path) == (8500, None, "")
    assert (parsed.manager.poll_seconds, parsed.manager.load_retries) == (1, 5)
    assert parsed.manager.retry_seconds == 60
    assert parsed.rest_timeout == 30
    assert (parsed.batching, parsed.ssl, parsed.metrics_path) == (None, None, None)
    assert parsed.config_poll_seconds == 0
    assert parsed.intra_op_threads >= 1


def test_the_default_host_is_loopback():
    assert flags.parse(BASE).host == "127.0.0.1"
    assert flags.parse([*BASE, "--host=0.0.0.0"]).host == "0.0.0.0"


def test_values_come_after_an_equals_sign_or_a_space():
    parsed = flags.parse(["--model_base_path", "/models/m", "--port", "1", "--rest_api_port=2"])
    assert (parsed.port, parsed.rest_port) == (1, 2)


def test_port_zero_is_no_port():
    assert flags.parse([*BASE, "--port=0", "--rest_api_port=2"]).port is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], False),
        (["--enable_batching"], True),
        (["--enable_batching=true"], True),
        (["--enable_batching=1"], True),
        (["--enable_batching=false"], False),
    ],
)
def test_booleans(arguments, expected):
    assert (flags.parse([*BASE, *arguments]).batching is not None) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--prot=1"], "unrecognized arguments: --prot=1"),
        (["--por=1"], "unrecognized arguments: --por=1"),
        (["loose"], "unrecognized arguments: loose"),
        (["--port=x"], "argument --port: expected a whole number"),
        (["--port=70000"], "expected a port from 0 to 65535, got 70000"),
        (["--max_num_load_retries=-1"], "expected a whole number"),
        (["--enable_batching=yes"], "expected true or false, got 'yes'"),
        (["--batching_parameters_file=/b"], "needs --enable_batching"),
        (["--port=5", "--rest_api_port=5"], "cannot be the same as --port"),
        (["--port=0"], "nothing to listen on"),
        (["--model_base_path=a/b"], "absolute path or URI; got base_path()=a/b"),
        (["--model_config_file=/nowhere"], "cannot read /nowhere"),
        (["--model_config_file_poll_wait_seconds=3"], "needs --model_config_file"),
        (["--enable_batching", "--batching_parameters_file=/nowhere"], "cannot read /nowhere"),
        (["--ssl_config_file=/nowhere"], "cannot read /nowhere"),
        (["--monitoring_config_file=/nowhere"], "needs --rest_api_port"),
        (["--grpc_channel_arguments=a"], "expected name=value, got 'a'"),
        (["--max_message_bytes=0"], "--max_message_bytes must be above 0"),
    ],
)
def test_unknown_and_contradictory_flags_are_refused(capsys, argv, message):
    assert message in refused(capsys, *BASE, *argv)


def test_a_model_is_needed(capsys):
    assert "give --model_base_path or --model_config_file" in refused(capsys)


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        ("model_config_file", "nonsense", "text-format tensorflow.serving.ModelServerConfig: 1:1"),
        ("model_config_file", "", "Only ModelConfigList is currently supported"),
        ("ssl_config_file", 'server_key: "k"', "needs server_key and server_cert"),
        (
            "ssl_config_file",
            'server_key: "k" server_cert: "c" client_verify: true',
            "client_verify needs custom_ca",
        ),
        (
            "monitoring_config_file",
            "on: true",
            "text-format tensorflow.serving.MonitoringConfig",
        ),
    ],
)
def test_files_that_cannot_be_used_are_refused(capsys, tmp_path, flag, text, message):
    (tmp_path / "file").write_text(text)
    line = refused(capsys, *BASE, "--rest_api_port=2", f"--{flag}={tmp_path}/file")
    assert message in line
    assert str(tmp_path / "file") in line or flag == "model_config_file"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true path: "/m" }', "/m"),
        ("prometheus_config {}", None),
    ],
)
def test_the_path_of_the_metrics(tmp_path, text, expected):
    (tmp_path / "file").write_text(text)
    argv = [*BASE, "--rest_api_port=2", f"--monitoring_config_file={tmp_path}/file"]
    assert flags.parse(argv).metrics_path == expected


def test_channel_arguments_are_numbers_or_text():
    argv = [*BASE, "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.x=y,grpc.z=-1"]
    expected = (("grpc.max_connection_age_ms", 2000), ("grpc.x", "y"), ("grpc.z", -1))
    assert flags.parse(argv).channel_arguments == expected


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--tensorflow_intra_op_parallelism=3", "--tensorflow_inter_op_parallelism=5"], (3, 5)),
        (["--tensorflow_session_parallelism=2"], (2, 2)),
        (["--tensorflow_session_parallelism=2", "--tensorflow_intra_op_parallelism=3"], (3, 0)),
    ],
)
def test_threads_of_tensorflow(argv, expected):
    parsed = flags.parse([*BASE, *argv])
    assert (parsed.intra_op_threads, parsed.inter_op_threads) == expected


def test_every_flag_of_the_real_server_is_known(capsys):
    with pytest.raises(SystemExit):
        flags.parse(["--help"])
    known = set(re.findall(r"^ +--(\w+)", capsys.readouterr().out, re.MULTILINE))
    assert set(REAL_FLAGS.split()) <= known


def test_flags_without_an_effect_are_said_in_a_line_each():
    argv = ["--num_load_threads=4", "--enable_grpc_healthcheck_service", "--grpc_max_threads", "9"]
    assert flags.parse([*BASE, *argv]).without_effect == (
        "--grpc_max_threads has no effect: gRPC has one event loop",
        "--num_load_threads has no effect: one version is loaded at a time, in a thread of its own",
        "--enable_grpc_healthcheck_service has no effect: the health service is always on",
    )
    assert flags.parse(BASE).without_effect == ()


@pytest.mark.parametrize(
    "flag",
    [
        *("prefer_tflite_model", "saved_model_tags=gpu", "mixed_precision=bfloat16"),
        *("per_process_gpu_memory_fraction=0.5", "use_alts_credentials=true"),
        *("tensorflow_session_config_file=/f", "thread_pool_factory_config_file=/f"),
        *("platform_config_file=/f", "enable_per_model_batching_parameters"),
        "rest_api_enable_cors_support=1",
    ],
)
def test_flags_whose_effect_would_be_missed_are_refused(capsys, flag):
    name = flag.partition("=")[0]
    message = f"serving.server: --{name} is not supported by the local server: "
    assert refused(capsys, *BASE, f"--{flag}").startswith(message)
    neutral = "serve" if name == "saved_model_tags" else "0"
    flags.parse([*BASE, f"--{name}={neutral}"])


def test_the_home_folder_is_expanded_after_an_equals_sign(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    [model] = flags.parse(["--model_base_path=~/m"]).models.model_config_list.config
    assert model.base_path == "/home/me/m"
    assert flags.parse([*BASE, "--grpc_socket_path=~/s"]).socket_path == "/home/me/s"


def test_the_version(capsys):
    with pytest.raises(SystemExit) as caught:
        flags.parse(["--version"])
    assert caught.value.code == 0
    assert "TensorFlow Library: 2." in capsys.readouterr().err


def test_several_models_in_one_file(tmp_path):
    text = 'config { name: "%s" base_path: "/m/%s" model_platform: "tensorflow" }'
    listed = " ".join(text.replace("%s", name) for name in "ab")
    (tmp_path / "models").write_text(f"model_config_list {{ {listed} }}")
    parsed = flags.parse([f"--model_config_file={tmp_path}/models"])
    assert [m.base_path for m in parsed.models.model_config_list.config] == ["/m/a", "/m/b"]
