import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from keras_ae.errors import StorageError
from pipeline.components.pusher import executor
from pipeline.runtime import artifacts, versions
from tests.disks import filled, small_disk


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def test_versions_have_different_numbers_and_earlier_ones_stay(model, tmp_path):
    base = tmp_path / "push" / "keras_ae"
    pushed = [executor.publish(model, base, {"digest": str(i)}) for i in range(3)]
    numbers = [int(version.name) for version in pushed]
    assert numbers == sorted(set(numbers))
    assert {path.name for path in base.iterdir()} == {version.name for version in pushed}
    assert executor.newest_version(base) == pushed[-1]
    for version in pushed:
        assert (version / "variables" / "variables.index").read_bytes() == b"index"
    assert versions.provenance(pushed[0]) == {"digest": "0"}


def test_two_pushes_at_once_give_two_versions(model, tmp_path):
    base = tmp_path / "push"
    threads = [
        threading.Thread(target=executor.publish, args=(model, base, {"n": n})) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [versions.provenance(path)["n"] for path in base.iterdir()]
    assert sorted(numbers) == list(range(8))


def test_a_server_that_polls_never_sees_half_a_version(model, tmp_path):
    for i in range(200):
        (model / "variables" / f"part-{i}").write_bytes(b"x" * 1000)
    expected = len(list(model.rglob("*"))) + 2
    base = tmp_path / "push"
    base.mkdir()
    seen: list[int] = []
    done = threading.Event()

    def poll() -> None:
        while not done.is_set():
            versions = [path for path in base.iterdir() if path.name.isdigit()]
            seen.extend(len(list(version.rglob("*"))) for version in versions)

    watcher = threading.Thread(target=poll)
    watcher.start()
    for _ in range(5):
        executor.publish(model, base, {})
    done.set()
    watcher.join()
    assert set(seen) == {expected}


def test_a_push_that_fails_leaves_nothing_behind(model, tmp_path):
    base = tmp_path / "push"
    first = executor.publish(model, base, {})
    (model / "dangling").symlink_to(tmp_path / "missing")
    with pytest.raises(StorageError, match="cannot push to"):
        executor.publish(model, base, {})
    assert list(base.iterdir()) == [first]


def test_the_digest_follows_names_and_contents(model):
    first = artifacts.model_digest(model)
    assert artifacts.model_digest(model) == first
    (model / "saved_model.pb").write_bytes(b"other")
    changed = artifacts.model_digest(model)
    (model / "saved_model.pb").rename(model / "renamed.pb")
    assert len({first, changed, artifacts.model_digest(model)}) == 3


def pushed(model: Path, base: Path | str, in_service: Path | str = "", compared: str = ""):
    """The output of a Pusher of a blessed model.

    Args:
        model: folder of the SavedModel.
        base: folder of the versions.
        in_service: the version that was in service when the run began.
        compared: digest of the version that the Evaluator has compared the model with.
    """
    pushable, blessing = standard_artifacts.Model(), standard_artifacts.ModelBlessing()
    pushable.uri = str(model.parent / f"artifact-of-{model.name}")
    blessing.set_int_custom_property("blessed", 1)
    blessing.set_string_custom_property(versions.COMPARED, compared)
    blessing.set_string_custom_property(versions.DATA, json.dumps({"fingerprint": "0123"}))
    shutil.copytree(model, path_utils.serving_model_dir(pushable.uri), dirs_exist_ok=True)
    artifact = standard_artifacts.PushedModel()
    artifact.uri = str(model.parent / "pushed")
    executor.Executor().Do(
        {"model": [pushable], "model_blessing": [blessing]},
        {"pushed_model": [artifact]},
        {
            "push_destination": json.dumps({"filesystem": {"base_directory": str(base)}}),
            "custom_config": json.dumps({executor.IN_SERVICE: str(in_service)}),
        },
    )
    return artifact


@pytest.fixture
def other(model) -> Path:
    """Another model."""
    folder = shutil.copytree(model, model.with_name("other"))
    (folder / "saved_model.pb").write_bytes(b"another graph")
    return folder


def test_a_model_is_pushed_once_and_again_if_it_was_damaged(model, tmp_path, capsys):
    base = tmp_path / "push"
    first = pushed(model, base)
    assert first.get_int_custom_property("pushed") == 1
    version = executor.newest_version(base)
    assert first.get_string_custom_property("pushed_destination") == str(version)
    second = pushed(model, base)
    assert second.get_int_custom_property("pushed") == 0
    assert second.get_string_custom_property(executor.UNCHANGED) == str(version)
    (version / "saved_model.pb").write_bytes(b"grape")
    assert capsys.readouterr().out == ""
    assert pushed(model, base).get_int_custom_property("pushed") == 1
    assert capsys.readouterr().out == f"    {version} is damaged: the model is pushed again\n"
    newest = executor.newest_version(base)
    assert newest != version
    assert executor.intact(newest)


def test_a_version_records_which_model_and_data_it_is(model, tmp_path):
    facts = model / artifacts.PROVENANCE
    facts.parent.mkdir()
    facts.write_text('{"white": 4095}')
    pushed(model, tmp_path / "push")
    version = executor.newest_version(tmp_path / "push")
    assert versions.provenance(version) == {
        "white": 4095,
        "digest": artifacts.model_digest(model),
        "artifact": str(tmp_path / "artifact-of-model"),
        "data": {"fingerprint": "0123"},
    }


def test_a_model_that_another_program_has_put_there_is_not_pushed_again(model, tmp_path):
    version = shutil.copytree(model, tmp_path / "push" / "7")
    again = pushed(model, tmp_path / "push")
    assert again.get_string_custom_property(executor.UNCHANGED) == str(version)


@pytest.mark.parametrize("compared", [True, False])
def test_the_version_that_was_in_service_when_the_run_began_is_replaced(
    model, other, tmp_path, compared
):
    base = tmp_path / "push"
    version = shutil.copytree(other, base / "7")
    digest = artifacts.model_digest(other) if compared else ""
    replaced = pushed(model, base, version, digest)
    assert replaced.get_int_custom_property("pushed") == 1
    assert len(list(base.iterdir())) == 2


def test_a_version_in_service_can_be_named_by_its_model_artifact(model, other, tmp_path):
    pushed(other, tmp_path / "push")
    in_service = tmp_path / "artifact-of-other"
    assert pushed(model, tmp_path / "push", in_service).get_int_custom_property("pushed") == 1


@pytest.mark.parametrize("in_service", ["", "6"])
@pytest.mark.parametrize("compared", ["", "digest of another model"])
def test_a_version_that_has_arrived_since_is_not_replaced(
    model, other, tmp_path, in_service, compared
):
    base = tmp_path / "push"
    before = in_service and shutil.copytree(model, base / "6")
    if before:
        (before / "saved_model.pb").write_bytes(b"an earlier graph")
    version = shutil.copytree(other, base / "7")
    refused = pushed(model, base, before, compared)
    assert refused.get_int_custom_property("pushed") == 0
    assert refused.get_string_custom_property(executor.ARRIVED) == str(version)
    assert not refused.has_custom_property(executor.UNCHANGED)
    assert executor.newest_version(base) == version


def test_of_two_runs_that_push_at_once_one_is_refused(model, other, tmp_path):
    base = tmp_path / "push"
    found = []
    threads = [
        threading.Thread(target=lambda folder=folder: found.append(pushed(folder, base)))
        for folder in (model, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.get_int_custom_property("pushed") for each in found) == [0, 1]
    assert len(list(base.iterdir())) == 1


def test_a_version_in_a_bucket_is_one_when_its_last_file_is_there(model, bucket):
    (model / "z").write_bytes(b"after saved_model.pb in the alphabet")
    base = f"{bucket.uri}/push/keras_ae"
    assert executor.newest_version(base) is None
    pushed = [executor.publish(model, base, {"digest": str(i)}) for i in range(2)]
    numbers = [int(str(version).rpartition("/")[2]) for version in pushed]
    assert numbers[0] < numbers[1]
    for number in numbers:
        written = bucket.written(f"push/keras_ae/{number}/")
        names = [name.removeprefix(f"push/keras_ae/{number}/") for name in written]
        assert names[-1] == "saved_model.pb"
        assert set(names[:-1]) == {"variables/variables.index", "z", str(artifacts.PROVENANCE)}
    assert executor.newest_version(base) == pushed[1]
    assert versions.provenance(pushed[0]) == {"digest": "0"}
    bucket.write(f"push/keras_ae/{numbers[1] + 7}/variables/variables.index", b"half a version")
    assert executor.newest_version(base) == pushed[1]
    assert str(executor.publish(model, base, {})).endswith(f"/{numbers[1] + 8}")


def test_a_push_to_a_missing_bucket_is_an_error_with_its_uri(model, bucket):
    with pytest.raises(StorageError, match="cannot read gs://no-such-bucket/push: "):
        executor.publish(model, "gs://no-such-bucket/push", {})


def test_files_of_a_killed_push_are_removed_and_those_of_a_running_one_stay(model, tmp_path):
    base = tmp_path / "push"
    version = executor.publish(model, base, {})
    abandoned, busy = base / ".incoming-abandoned", base / ".incoming-busy"
    for folder in (abandoned, busy):
        (folder / "variables").mkdir(parents=True)
        (folder / "variables" / "variables.index").write_bytes(b"ind")
    program = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", program, busy]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        executor.remove_abandoned(base)
        assert set(base.iterdir()) == {version, busy}
        other.stdin.close()
    executor.remove_abandoned(base)
    assert list(base.iterdir()) == [version]


def test_a_push_to_a_full_disk_is_an_error_and_succeeds_when_there_is_space(model, tmp_path):
    (model / "variables" / "variables.data").write_bytes(b"x" * 2**20)
    with small_disk(tmp_path / "disk", "4m") as disk:
        base = disk / "push"
        first = executor.publish(model, base, {"digest": artifacts.model_digest(model)})
        with filled(disk, leave=2**19), pytest.raises(StorageError) as caught:
            executor.publish(model, base, {})
        assert str(caught.value) == (
            f"cannot push to {base}: No space left on device; what earlier runs made is kept"
        )
        assert list(base.iterdir()) == [first]
        assert executor.intact(first)
        assert executor.newest_version(base) == first
        assert executor.publish(model, base, {}) == executor.newest_version(base) != first


@pytest.mark.parametrize("where", ["lost", "changed", "added"])
def test_a_version_that_is_not_what_was_pushed_is_noticed(model, tmp_path, where):
    facts = {"digest": artifacts.model_digest(model)}
    version = executor.publish(model, tmp_path / "push", facts)
    assert executor.intact(version)
    if where == "lost":
        shutil.rmtree(version / "variables")
    else:
        name = "variables.index" if where == "changed" else "new"
        (version / "variables" / name).write_text("")
    assert not executor.intact(version)
