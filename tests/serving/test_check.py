"""python -m serving.check, with servers in processes of their own."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from serving import check

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def expected(in_process, photographs):
    """Images and the reconstructions of the model in this process: arrays of an .npz file."""
    reconstruct = in_process.signatures["reconstruct"]
    arrays = {}
    for i, size in enumerate([(40, 56), (1, 1), (33, 9)]):
        images = np.stack([photograph[: size[0], : size[1]] for photograph in photographs])
        arrays[f"images_{i}"] = images
        answer = reconstruct(images=images)["reconstructions"]
        arrays[f"reconstructions_{i}"] = answer.numpy()
    return arrays


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """run(model, arrays) -> exit status, stdout, stderr; asserts that no process is left."""
    monkeypatch.chdir(tmp_path)

    def check_model(model, arrays, *, path_from_stdin=False):
        path = str(tmp_path / "expected.npz")
        np.savez(path, **arrays)
        before = children()
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(path) if path_from_stdin else ""))
        status = check.main([str(model), "-" if path_from_stdin else path])
        assert children() == before
        return status, *capsys.readouterr()

    return check_model


def children(pid: int | None = None) -> set[str]:
    """The ids of the running children of a process, by default of this one."""
    return {str(child.pid) for child in psutil.Process(pid).children()}


def test_equal_predictions_pass(run, cold, expected):
    status, out, err = run(cold, expected, path_from_stdin=True)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        *("gRPC, tensors", "gRPC, PNG", "REST, tensors", "REST, PNG")
    ]
    assert all(int(line.split()[4]) <= 1 for line in lines)


def test_a_different_pixel_fails_with_the_protocol_and_difference(
    run, cold, expected, tmp_path, monkeypatch
):
    """Also, `tensorflow_model_server` is started if it is on the PATH."""
    binary = tmp_path / "bin" / "tensorflow_model_server"
    binary.parent.mkdir()
    started = tmp_path / "started"
    binary.write_text(
        f'#!/bin/sh\necho "$@" > {started}\nexec {sys.executable} -m serving.server "$@"\n'
    )
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{binary.parent}{os.pathsep}{os.environ['PATH']}")
    wrong = {name: array.copy() for name, array in expected.items()}
    wrong["reconstructions_2"][1, 30, 4, 2] ^= 64
    status, _, err = run(cold, wrong)
    assert "--model_base_path=" in started.read_text()
    assert status == 1
    assert err.count("\n") == 1
    assert "served predictions differ from the trained model" in err
    for way in ("gRPC, tensors", "gRPC, PNG", "REST, tensors", "REST, PNG"):
        assert f"{way}: 6" in err, "63 to 65 grey levels"


def test_a_model_that_cannot_be_served_fails(run, cold, expected, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(cold, broken)
    shutil.rmtree(broken / "variables")
    status, out, err = run(broken, expected)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "neither"),
        ({"images_0": np.zeros((1, 2, 2, 3), np.uint8)}, "reconstructions_0"),
        (
            {
                "images_0": np.zeros((1, 2, 2, 3), np.uint8),
                "reconstructions_0": np.zeros((1, 2, 1, 3), np.uint8),
            },
            r"one shape",
        ),
    ],
)
def test_incomplete_expected_arrays_are_an_error(run, cold, arrays, message):
    status, out, err = run(cold, arrays)
    assert (status, out) == (1, "")
    assert message in err


def test_a_check_that_is_terminated_stops_its_server(cold, expected, tmp_path):
    np.savez(tmp_path / "expected.npz", **expected)
    command = [sys.executable, "-m", "serving.check", cold, tmp_path / "expected.npz"]
    stopped = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)})
    servers: set[str] = set()
    while not servers and stopped.poll() is None:
        servers = children(stopped.pid)
        time.sleep(0.01)
    stopped.terminate()
    assert stopped.wait(60) == 143
    assert servers
    assert not any(Path("/proc", server).exists() for server in servers)
    assert not list(tmp_path.glob("keras_ae_check_*"))


def test_missing_and_unreadable_files_are_errors(capsys, tmp_path, expected):
    assert check.main([str(tmp_path), str(tmp_path / "nowhere.npz")]) == 1
    assert "nowhere.npz" in capsys.readouterr().err
    np.savez(tmp_path / "expected.npz", **expected)
    assert check.main([str(tmp_path), str(tmp_path / "expected.npz")]) == 1
    assert f"no SavedModel in {tmp_path}" in capsys.readouterr().err
    (tmp_path / "text.npz").write_text("text")
    assert check.main([str(tmp_path), str(tmp_path / "text.npz")]) == 1
    assert "cannot read images" in capsys.readouterr().err
