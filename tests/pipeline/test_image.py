"""Tests of the Dockerfile without Docker: its steps are run on this machine."""

import fnmatch
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

import keras_ae

ROOT = Path(__file__).parents[2]
FILE = ROOT / "pipeline" / "Dockerfile"
BIN = Path(sys.executable).parent
AS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("useradd"), reason="adding a user needs root and useradd"
)


class Step(NamedTuple):
    """An instruction: the stage that it is in, its name, and the rest of it."""

    stage: str
    name: str
    text: str


def steps() -> list[Step]:
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    found, stage = [], ""
    for text in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not text.strip():
            continue
        name, rest = text.split(maxsplit=1)
        if name == "FROM":
            stage = rest.split()[-1]
        found.append(Step(stage, name, rest))
    return found


STEPS = steps()


def texts(name: str, stage: str | None = None) -> list[str]:
    return [step.text for step in STEPS if step.name == name and stage in (None, step.stage)]


def sources() -> list[str]:
    """The files and folders of the project that are copied into the image."""
    copies = [text.split() for text in texts("COPY") if not text.startswith("--from")]
    return [source for *paths, _ in copies for source in paths]


def shell(script: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["/bin/sh", "-c", script],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
    )


def locked(package: str) -> str:
    found = re.search(rf"^{package}==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_hadolint_finds_nothing():
    assert "hadolint" not in FILE.read_text()
    done = subprocess.run([BIN / "hadolint", FILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_bases_are_pinned_to_the_versions_of_the_lock():
    bases = [text.split()[0] for text in texts("FROM")]
    assert bases[:2] == ["python:3.11-bookworm", "python:3.11-slim-bookworm"]
    assert set(bases[2:]) == {"runtime"}
    (beam,) = [text.split()[0] for text in texts("COPY", "beam")]
    assert beam == f"--from=apache/beam_python3.11_sdk:{locked('apache-beam')}"
    (uv,) = re.findall(r"\buv==\S+", FILE.read_text())
    assert f"UV := {uv}\n" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("target", ["kubeflow", "beam"])
def test_a_target_ends_as_a_user_by_number(target):
    names = [step.name for step in STEPS if step.stage == target]
    assert names[-2:] == ["USER", "ENTRYPOINT"]
    assert texts("USER", target) == ["10001"]
    assert "useradd --uid 10001 --gid 0 " in " ".join(texts("RUN", "runtime"))


def test_the_default_target_is_the_image_for_kubeflow():
    assert STEPS[-1].stage == "kubeflow"
    program, flag, module = json.loads(STEPS[-1].text)
    assert (program, flag) == ("python", "-m")
    assert importlib.util.find_spec(module)


def test_the_environment_is_that_of_the_pipeline():
    (text,) = texts("ENV", "runtime")
    variables = dict(pair.split("=", 1) for pair in text.split())
    assert variables["PATH"].startswith("/opt/venv/bin:")
    assert variables["KERAS_BACKEND"] == "tensorflow"
    assert variables["HOME"] in " ".join(texts("RUN", "runtime"))
    assert "TF_USE_LEGACY_KERAS" not in FILE.read_text()


def test_labels_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (text,) = texts("LABEL")
    assert f'version="{keras_ae.__version__}"' in text
    assert f'licenses="{project["license"]}"' in text


def test_what_is_copied_is_there_and_reaches_the_engine():
    assert not texts("ADD")
    rules = (ROOT / ".dockerignore").read_text().split("\n")
    included = {rule[1:] for rule in rules if rule.startswith("!")}
    assert "*" in rules
    assert set(sources()) == included
    for source in sources():
        assert (ROOT / source).exists()
    for heavy in (".venv", ".git", "runs", "tests", "build"):
        assert not any(fnmatch.fnmatch(heavy, rule) for rule in included)


@pytest.mark.parametrize(
    ("variant", "lock"), [("cpu", "requirements.lock"), ("gpu", "requirements-gpu.lock")]
)
def test_each_variant_installs_its_lock_by_hash(variant, lock, tmp_path):
    """Without a network, a replacement of uv prints its arguments."""
    stand_in = tmp_path / "uv"
    stand_in.write_text('#!/bin/sh\necho "$@"\n')
    stand_in.chmod(0o755)
    (step,) = [text for text in texts("RUN", "builder") if "VARIANT" in text]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = shell(step, PATH=path, VARIANT=variant)
    words = done.stdout.split()
    assert words[:2] == ["pip", "install"]
    assert words[-2:] == ["--requirements", lock]
    assert {"--require-hashes", "--no-deps", "--build-constraints"} < set(words)
    assert lock in sources()
    refused = shell(step, PATH=path, VARIANT="tpu")
    assert refused.returncode == 2
    assert refused.stderr == "VARIANT must be cpu or gpu; got 'tpu'\n"
    assert refused.stdout == ""


def test_the_project_is_importable_from_anywhere(tmp_path):
    subprocess.run([BIN / "python", "-m", "venv", "--without-pip", f"{tmp_path}/venv"], check=True)
    for source, target in (t.split() for t in texts("COPY", "builder") if "/opt/" in t):
        place = tmp_path / target.removeprefix("/opt/")
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place)
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place)
    step = texts("RUN", "builder")[-1].replace("/opt/", f"{tmp_path}/")
    done = shell(step, PATH=f"{BIN}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    program = (
        "import importlib.util, pipeline.runtime.fingerprint\n"
        "for name in ('keras_ae', 'pipeline', 'serving'):\n"
        "    print(importlib.util.find_spec(name).origin)\n"
        "print(pipeline.runtime.fingerprint.ROOT)\n"
    )
    done = subprocess.run(
        [tmp_path / "venv/bin/python", "-c", program], cwd="/", capture_output=True, text=True
    )
    home = tmp_path / "keras-ae"
    packages = [str(home / name / "__init__.py") for name in ("keras_ae", "pipeline", "serving")]
    assert done.stdout.split() == [*packages, str(home)], done.stderr
    assert list((home / "pipeline" / "__pycache__").glob("trainer.*.pyc"))


def test_the_tools_that_install_are_removed(tmp_path):
    subprocess.run([BIN / "python", "-m", "venv", tmp_path], check=True)
    uninstall, remove, *_ = texts("RUN", "runtime")[0].split("&&")
    done = shell(uninstall, PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    installed = {path.name.split("-")[0] for path in tmp_path.glob("lib/*/site-packages/*")}
    assert not installed & {"pip", "setuptools", "wheel"}
    assert not list((tmp_path / "bin").glob("pip*"))
    assert remove.split()[-1].endswith("python3.11/ensurepip")


@AS_ROOT
def test_the_user_may_write_where_it_must(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tmp_path / "etc" / "group").write_text("root:x:0:\n")
    _, _, add, *rest = texts("RUN", "runtime")[0].split("&&")
    done = shell(add.replace("useradd", f"useradd --prefix {tmp_path}"))
    assert done.returncode == 0, done.stderr
    assert ":10001:0::/home/keras-ae:" in (tmp_path / "etc" / "passwd").read_text()
    (tmp_path / "home" / "keras-ae").mkdir(exist_ok=True)
    script = "&&".join(rest)
    done = shell(re.sub(r" (/[a-z0-9])", rf" {tmp_path}\1", script))
    assert done.returncode == 0, done.stderr
    for name in ("gcs", "s3", "minio", "home/keras-ae"):
        status = (tmp_path / name).stat()
        assert status.st_mode & 0o777 == 0o775
        assert status.st_gid == 0
    assert (tmp_path / "gcs").stat().st_uid == 10001


@pytest.mark.parametrize(
    ("docker", "text"),
    [
        (None, "there is no docker here"),
        ("exit 1", "no Docker engine answers the docker here"),
        ('echo "$@"', "build --platform linux/amd64 --file pipeline/Dockerfile"),
    ],
)
def test_make_image_builds_it_or_says_what_is_missing(docker, text, tmp_path):
    if docker:
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{docker}\n")
        (tmp_path / "docker").chmod(0o755)
    (tmp_path / "echo").symlink_to(shutil.which("echo"))
    make = shutil.which("make")
    done = subprocess.run(
        [make, "image", "VARIANT=gpu", "IMAGE=mine"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    built = docker is not None and "echo" in docker
    assert (done.returncode == 0) == built
    assert text in (done.stdout if built else done.stderr.splitlines()[0])
    if built:
        assert "--build-arg VARIANT=gpu --target kubeflow --tag mine:gpu ." in done.stdout
