import pytest

from serving.server import flags

BASE = ("--model_base_path=/models/m",)


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
        (["--tensorflow_session_parallelism=2"], "--tensorflow_session_parallelism"),
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
        ("model_config_file", "model_config_list { nonsense }", "ModelServerConfig text proto"),
        ("model_config_file", "", "Only ModelConfigList is currently supported"),
        ("ssl_config_file", 'server_key: "k"', "needs server_key and server_cert"),
        (
            "ssl_config_file",
            'server_key: "k" server_cert: "c" client_verify: true',
            "client_verify needs custom_ca",
        ),
        ("monitoring_config_file", "on: true", "is not a MonitoringConfig text proto"),
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


def test_threads_of_tensorflow():
    argv = ["--tensorflow_intra_op_parallelism=3", "--tensorflow_inter_op_parallelism=5"]
    parsed = flags.parse([*BASE, *argv])
    assert (parsed.intra_op_threads, parsed.inter_op_threads) == (3, 5)


def test_several_models_in_one_file(tmp_path):
    text = 'config { name: "%s" base_path: "/m/%s" model_platform: "tensorflow" }'
    listed = " ".join(text.replace("%s", name) for name in "ab")
    (tmp_path / "models").write_text(f"model_config_list {{ {listed} }}")
    parsed = flags.parse([f"--model_config_file={tmp_path}/models"])
    assert [m.base_path for m in parsed.models.model_config_list.config] == ["/m/a", "/m/b"]
