"""The client as it is installed: `keras_ae.client`, with the dependencies of the package only."""

import email
import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = {
    "keras_ae": "keras_ae",
    "serving/client": "keras_ae/client",
    "serving/wire": "keras_ae/wire",
}
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
PROGRAM = """
import contextlib, io, json, sys
wheel, site_packages, target = sys.argv[1:]
INSTALLED = {"google", "grpc", "keras_ae", "numpy", "PIL", "typing_extensions"}

class OnlyInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in INSTALLED | sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, OnlyInstalled())
sys.path += [wheel, site_packages]

import numpy as np
import keras_ae
from keras_ae.client import ReconstructionClient
from keras_ae.client.__main__ import main

def refusal(call):
    try:
        call()
    except ImportError as error:
        return str(error)

with ReconstructionClient(target) as client:
    result = client.reconstruct(np.full((1, 20, 30, 3), 99, np.uint8))
sys.argv = ["/somewhere/bin/keras-ae-client", "--help"]
with contextlib.redirect_stdout(io.StringIO()) as helped, contextlib.suppress(SystemExit):
    main()
print(json.dumps({
    "module": ReconstructionClient.__module__,
    "shape": result.reconstructions.shape,
    "psnr": float(result.psnr[0]),
    "usage": helped.getvalue(),
    "rest": refusal(lambda: ReconstructionClient("http://127.0.0.1:1")),
    "library": [
        refusal(lambda: getattr(keras_ae, name))
        for name in ("ConvAutoencoder", "Ladder", "export", "load_model")
    ],
}))
"""


@pytest.fixture(scope="module")
def wheel(once) -> Path:
    def make(folder: Path) -> None:
        source = folder / "source"
        ignore = shutil.ignore_patterns("__pycache__")
        for name in ("keras_ae", "serving"):
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        subprocess.run(
            [sys.executable, "-c", BUILD, str(folder)], cwd=source, check=True, capture_output=True
        )
        shutil.rmtree(source)

    (path,) = once("wheel", make).iterdir()
    return path


@pytest.fixture(scope="module")
def files(wheel) -> dict[str, bytes]:
    """Name -> content."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def about(files, name: str) -> str:
    """One of the files about the distribution."""
    (content,) = [data for path, data in files.items() if path.endswith(f".dist-info/{name}")]
    return content.decode()


def test_the_wheel_holds_the_library_the_client_and_nothing_else(files):
    expected = {
        f"{installed}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, installed in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in files if ".dist-info/" not in name} == expected
    assert about(files, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()


def test_only_what_the_client_needs_is_installed_with_it(files):
    needed = email.message_from_string(about(files, "METADATA")).get_all("Requires-Dist")
    always = {need.split(">")[0].split("<")[0] for need in needed if "extra ==" not in need}
    assert always == {"grpcio", "numpy", "pillow", "protobuf"}


def test_the_installed_client_reconstructs_and_prints_its_help(wheel, files, real_server, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    arguments = [tmp_path, sysconfig.get_path("purelib"), real_server.running.grpc]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, *map(str, arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout)
    assert output["module"] == "keras_ae.client.blocking"
    assert output["shape"] == [1, 20, 30, 3]
    assert output["psnr"] > 30
    assert output["usage"].startswith("usage: keras-ae-client ")
    assert output["rest"] == (
        "REST needs httpx, which is not installed: install keras-ae with its extra client"
    )
    for refusal in output["library"]:
        assert "needs keras, which is not installed: install keras-ae with its extra jax" in refusal
