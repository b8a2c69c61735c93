"""Which server `make serve` starts and with which flags, and its message without a model."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAKE = shutil.which("make")


@pytest.fixture
def run_root(tmp_path) -> Path:
    """A run that has pushed version 7; the name has a space."""
    root = tmp_path / "my run"
    version = root / "serving" / "keras_ae" / "7"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"")
    return root


@pytest.fixture
def on_path(tmp_path):
    """on_path(name): adds a command to a separate PATH that writes its arguments to NAME.args."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("dirname", "sh"):
        (folder / tool).symlink_to(shutil.which(tool))

    def put(name: str, body: str = "") -> Path:
        arguments = folder / f"{name}.args"
        script = folder / name
        script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{arguments}"\n{body}\n')
        script.chmod(0o755)
        return arguments

    put.path = folder
    return put


def make(*arguments: str, path: Path | str = os.environ["PATH"]) -> subprocess.CompletedProcess:
    """Runs make as a user does, without recreating the virtual environment."""
    assert MAKE is not None
    return subprocess.run(
        [MAKE, "--no-print-directory", "-o", ".venv/.done", *arguments],
        cwd=ROOT,
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
    )


def test_tensorflow_serving_is_taken_when_it_is_on_the_path(run_root, on_path):
    arguments = on_path("tensorflow_model_server")
    done = make("serve", f"ROOT={run_root}", "PORT=1234", "REST_PORT=5678", path=on_path.path)
    assert done.returncode == 0, done.stderr
    assert arguments.read_text().splitlines() == [
        "--port=1234",
        "--rest_api_port=5678",
        "--model_name=keras_ae",
        f"--model_base_path={run_root}/serving/keras_ae",
        f"--monitoring_config_file={ROOT}/serving/deploy/config/monitoring.config",
    ]
    assert "with TensorFlow Serving" in done.stdout
    assert "gRPC on port 1234, REST on port 5678, on all interfaces" in done.stdout


def test_the_local_server_is_taken_otherwise(run_root, on_path):
    arguments = on_path("python")
    done = make("serve", f"ROOT={run_root}", f"BIN={on_path.path}", path=on_path.path)
    assert done.returncode == 0, done.stderr
    assert arguments.read_text().splitlines()[:4] == [
        "-m",
        "serving.server",
        "--port=8500",
        "--rest_api_port=8501",
    ]
    assert "with the local server (no tensorflow_model_server on the PATH)" in done.stdout


def test_further_flags_reach_the_server(run_root, on_path):
    arguments = on_path("tensorflow_model_server")
    flags = "--enable_batching=true --file_system_poll_wait_seconds=5"
    done = make("serve", f"ROOT={run_root}", f"ARGS={flags}", path=on_path.path)
    assert done.returncode == 0, done.stderr
    assert arguments.read_text().splitlines()[-2:] == flags.split()


def test_the_status_of_the_server_is_the_status_of_make(run_root, on_path):
    on_path("tensorflow_model_server", "echo bad flag >&2; exit 3")
    done = make("serve", f"ROOT={run_root}", path=on_path.path)
    assert done.returncode == 2
    assert "bad flag" in done.stderr
    assert "Error 3" in done.stderr


@pytest.mark.parametrize("half", [[], ["serving/keras_ae"], ["serving/keras_ae/7"]])
def test_without_a_pushed_model_it_says_what_to_do(half, tmp_path, on_path):
    arguments = on_path("tensorflow_model_server")
    root = tmp_path / "empty"
    for folder in half:
        (root / folder).mkdir(parents=True)
    done = make("serve", f"ROOT={root}", path=on_path.path)
    assert done.returncode != 0
    assert f"nothing has been pushed to {root}/serving/keras_ae yet: run `make run`" in done.stderr
    assert not arguments.exists()


def test_the_default_is_what_make_run_pushes(on_path):
    done = make("-n", "serve", path=on_path.path)
    assert 'serve.sh "runs/default" 8500 8501 .venv/bin/python' in done.stdout


@pytest.mark.parametrize("browser", ["chromium", "google-chrome"])
def test_an_installed_browser_is_not_installed_again(browser, on_path):
    on_path(browser)
    installed = on_path("apt-get")
    on_path("id", "echo 0")
    done = make("browser", path=on_path.path)
    assert (done.returncode, done.stdout) == (0, "")
    assert not installed.exists()


def test_root_gets_a_browser_from_debian(on_path):
    installed = on_path("apt-get")
    on_path("id", "echo 0")
    done = make("browser", path=on_path.path)
    assert done.returncode == 0
    assert "installing chromium" in done.stdout
    assert "chromium" in installed.read_text().splitlines()


@pytest.mark.parametrize(("user", "apt"), [(0, "exit 100"), (1000, ""), (0, None)])
def test_without_a_browser_the_tests_still_run_and_say_so(user, apt, on_path):
    if apt is not None:
        on_path("apt-get", apt)
    on_path("id", f"echo {user}")
    done = make("browser", path=on_path.path)
    assert done.returncode == 0
    assert "tests of the pages will be skipped" in done.stdout


def test_the_tests_ask_for_a_browser_first(on_path):
    on_path("apt-get")
    on_path("id", "echo 1000")
    done = make("-n", "test", path=on_path.path)
    steps = done.stdout
    assert steps.index("chromium") < steps.index("-m pytest")
