"""The script that copies models from a bucket to a pod; here the bucket is a folder."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "serving/deploy/kubernetes/base/sync-models.sh"

# The commands of rclone that the script uses, for folders, if rclone is not installed.
RCLONE = """#!/bin/sh
case $1 in
  lsf)
    for source; do :; done
    cd "$source" && find . -mindepth 2 -maxdepth 2 -name saved_model.pb | cut -c3- ;;
  copy) mkdir -p "$3" && cp -r "$2/." "$3" ;;
  *) exit 2 ;;
esac
"""


@pytest.fixture
def bucket(tmp_path) -> Path:
    folder = tmp_path / "bucket"
    folder.mkdir()
    return folder


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "models" / "keras_ae"


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    path = os.environ["PATH"]
    if shutil.which("rclone") is None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "rclone").write_text(RCLONE)
        (tmp_path / "bin" / "rclone").chmod(0o755)
        path = f"{tmp_path / 'bin'}{os.pathsep}{path}"
    return {"PATH": path, "RCLONE_CONFIG": str(tmp_path / "rclone.conf")}


def upload(bucket: Path, version: str, complete: bool = True) -> None:
    (bucket / version / "variables").mkdir(parents=True)
    (bucket / version / "variables" / "variables.index").write_text(version)
    if complete:
        (bucket / version / "saved_model.pb").write_text(version)


def sync(bucket: Path, target: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["sh", str(SCRIPT), str(bucket), str(target), "0"],
        env=environment,
        capture_output=True,
        text=True,
    )


def versions(target: Path) -> list[str]:
    return sorted(path.name for path in target.iterdir() if path.name.isdigit())


def test_versions_are_copied_with_all_their_files(bucket, target, environment):
    upload(bucket, "7")
    upload(bucket, "12")
    done = sync(bucket, target, environment)
    assert done.returncode == 0, done.stderr
    assert versions(target) == ["12", "7"]
    assert (target / "12/variables/variables.index").read_text() == "12"
    assert done.stdout.splitlines() == ["fetched version 7", "fetched version 12"]


def test_incomplete_versions_and_other_folders_are_not_copied(bucket, target, environment):
    upload(bucket, "7")
    upload(bucket, "12", complete=False)
    upload(bucket, "backup")
    assert sync(bucket, target, environment).returncode == 0
    assert versions(target) == ["7"]
    assert not (target / "backup").exists()


def test_removing_the_newest_version_rolls_back(bucket, target, environment):
    upload(bucket, "7")
    upload(bucket, "12")
    sync(bucket, target, environment)
    shutil.rmtree(bucket / "12")
    done = sync(bucket, target, environment)
    assert done.stdout.splitlines() == ["removed version 12"]
    assert versions(target) == ["7"]


def test_only_the_newest_are_kept_by_number(bucket, target, environment):
    for version in ("7", "12", "100"):
        upload(bucket, version)
    assert sync(bucket, target, environment | {"KEEP": "2"}).returncode == 0
    assert versions(target) == ["100", "12"]


@pytest.mark.parametrize("gone", ["emptied", "unreachable"])
def test_a_bucket_without_versions_changes_nothing(gone, bucket, target, environment):
    upload(bucket, "7")
    sync(bucket, target, environment)
    shutil.rmtree(bucket)
    if gone == "emptied":
        bucket.mkdir()
    assert sync(bucket, target, environment).returncode == 1
    assert versions(target) == ["7"]


def test_a_failed_copy_leaves_no_version(bucket, target, environment, tmp_path):
    upload(bucket, "7")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "rclone").write_text(
        "#!/bin/sh\n[ $1 = lsf ] && { echo 7/saved_model.pb; exit; }\n"
        'mkdir -p "$3"; echo half > "$3/saved_model.pb"; exit 1\n'
    )
    (broken / "rclone").chmod(0o755)
    path = f"{broken}{os.pathsep}{environment['PATH']}"
    assert sync(bucket, target, environment | {"PATH": path}).returncode == 1
    assert versions(target) == []
    assert sync(bucket, target, environment).returncode == 0
    assert (target / "7/saved_model.pb").read_text() == "7"


def test_it_syncs_repeatedly_until_sigterm(bucket, target, environment):
    process = subprocess.Popen(
        ["sh", str(SCRIPT), str(bucket), str(target), "0.05"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        upload(bucket, "7")
        deadline = time.monotonic() + 30
        while not (target / "7/saved_model.pb").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert versions(target) == ["7"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
