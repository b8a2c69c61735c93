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
    """What the model answers in this process: the arrays of an .npz file."""
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
    """run(model, arrays) -> exit status, what it printed, what it complained; leaves no process."""
    monkeypatch.chdir(tmp_path)

    def ran(model, arrays, *, named=True):
        path = str(tmp_path / "expected.npz")
        np.savez(path, **arrays)
        before = children()
        monkeypatch.setattr(sys, "stdin", io.StringIO("" if named else json.dumps(path)))
        status = check.main([str(model), path if named else "-"])
        assert children() == before
        return status, *capsys.readouterr()

    return ran


def children(pid: int | None = None) -> set[str]:
    """Processes that a process, this one without a number, started and that are not gone."""
    return {str(child.pid) for child in psutil.Process(pid).children()}


def test_a_model_that_answers_as_it_did_passes(run, cold, expected):
    status, out, err = run(cold, expected, named=False)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        *("gRPC, tensors", "gRPC, PNG", "REST, tensors", "REST, PNG")
    ]
    assert all(int(line.split()[4]) <= 1 for line in lines)


def test_a_pixel_that_differs_fails_and_says_where(run, cold, expected, tmp_path, monkeypatch):
    """And a `tensorflow_model_server` on the PATH is what is started."""
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
    assert "does not answer as the model did" in err
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
def test_what_is_expected_has_to_be_there(run, cold, arrays, message):
    status, out, err = run(cold, arrays)
    assert (status, out) == (1, "")
    assert message in err


def test_a_check_that_is_stopped_leaves_no_server(cold, expected, tmp_path):
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


def test_files_that_are_not_there(capsys, tmp_path, expected):
    assert check.main([str(tmp_path), str(tmp_path / "nowhere.npz")]) == 1
    assert "nowhere.npz" in capsys.readouterr().err
    np.savez(tmp_path / "expected.npz", **expected)
    assert check.main([str(tmp_path), str(tmp_path / "expected.npz")]) == 1
    assert f"no SavedModel in {tmp_path}" in capsys.readouterr().err
    (tmp_path / "text.npz").write_text("text")
    assert check.main([str(tmp_path), str(tmp_path / "text.npz")]) == 1
    assert "cannot read images" in capsys.readouterr().err
