"""Loading, replacing and unloading versions, over a real channel and with real folders."""

import gc
import shutil
import threading
import weakref
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf import text_format

from keras_ae.errors import ConfigurationError
from serving.server.models import model, versions
from serving.wire.protos import ModelServerConfig, PredictionLog, PredictRequest
from serving.wire.tensors import to_proto
from tests.serving import servers
from tests.serving.servers import LABELS_AHEAD, PIXELS, wait_until

AVAILABLE, END = "AVAILABLE", "END"


@pytest.fixture
def serving(start_server, publish):
    """Starts a server of `publish.base`: serving(*flags) -> client."""

    def start(*flags, **options):
        named = ("--model_name=m", f"--model_base_path={publish.base}")
        return start_server(*named, "--max_num_load_retries=0", *flags, **options)

    return start


def models(*entries):
    listed = " ".join(f"config {{ {entry} }}" for entry in entries)
    return text_format.Parse(f"model_config_list {{ {listed} }}", ModelServerConfig())


def entry(base, rest="", name="m"):
    return f'name: "{name}" base_path: "{base}" model_platform: "tensorflow" {rest}'


def assert_refused(call, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() == code, caught.value.details()
    assert message in caught.value.details()


# Folders


def test_only_folders_with_whole_numbers_are_versions(tmp_path):
    for name in ("1", "20", "007", "-3", "1.5", "x", ".tmp-4", "²", str(2**63), "9" * 400):
        if len(name) < 256:
            (tmp_path / name).mkdir()
    (tmp_path / "5").write_text("a file")
    assert sorted(versions.find(tmp_path)) == [1, 7, 20]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", [3]),
        ("latest {}", [3]),
        ("latest { num_versions: 2 }", [2, 3]),
        ("all {}", [1, 2, 3]),
        ("specific { versions: 1 versions: 9 }", [1]),
    ],
)
def test_policies(serving, publish, policy, expected):
    for number in (1, 2, 3):
        publish(number)
    client = serving()
    config = models(entry(publish.base, f"model_version_policy {{ {policy} }}"))
    client.reload(config)
    wait_until(lambda: [v for v, s in client.status().items() if s == AVAILABLE][::-1] == expected)
    for version in expected:
        assert client.predict({"images": PIXELS}, version=version).version == version


# Replacing versions


def test_the_ports_open_when_each_model_has_a_version(publish, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(model, "WAITING_LOG_SECONDS", 0.01)
    other = tmp_path / "other"
    listed = models(entry(publish.base), entry(other, name="n"))
    (tmp_path / "models").write_text(str(listed))
    publish(1)
    with servers.starting([f"--model_config_file={tmp_path}/models"]) as running:
        server, text = running.server, f"n: no version in {other} yet; the ports open when"
        wait_until(lambda: caplog.text.count(text) > 2)
        assert server.manager._models["m"].available
        assert (server.grpc_port, server.rest_port) == (0, 0)
        publish(2, under=other)
        running.wait()
        with grpc.insecure_channel(running.grpc) as channel:
            assert servers.Client(channel).predict({"images": PIXELS}, name="n").version == 2
        assert httpx.get(f"{running.rest}/v1/models/m").status_code == 200


def test_a_server_whose_only_version_cannot_be_loaded_does_not_start(serving, publish):
    (publish.base / "7").mkdir()
    with pytest.raises(ConfigurationError, match=r"m has no version .*saved_model"):
        serving()


def test_one_good_version_is_enough_to_start(start_server, publish, tmp_path):
    publish(1)
    (publish.base / "7").mkdir()
    (tmp_path / "models").write_text(
        str(models(entry(publish.base, "model_version_policy{all{}}")))
    )
    flags = (f"--model_config_file={tmp_path}/models", "--max_num_load_retries=0")
    client = start_server(*flags)
    assert client.status() == {1: AVAILABLE, 7: END}


def test_a_broken_version_that_is_removed_at_start_is_waited_for_no_longer(publish, caplog):
    (publish.base / "7").mkdir()
    flags = ("--model_name=m", f"--model_base_path={publish.base}")
    with servers.starting(flags, retry=60) as running:
        wait_until(lambda: "version 7 failed to load" in caplog.text)
        (publish.base / "7").rmdir()
        wait_until(lambda: "no version in" in caplog.text)
        publish(1)
        running.wait()
        with grpc.insecure_channel(running.grpc) as channel:
            assert servers.Client(channel).status() == {1: AVAILABLE, 7: END}


def test_swap_and_rollback_under_load_fail_no_request(serving, publish):
    publish(1)
    client = serving()
    client.wait_for({1: AVAILABLE})
    versions_seen, failures, stop = set(), [], threading.Event()

    def load():
        while not stop.is_set():
            try:
                answer = client.predict({"images": PIXELS})
                np.testing.assert_array_equal(answer.reconstructions, PIXELS + answer.version)
                versions_seen.add(answer.version)
            except (grpc.RpcError, AssertionError) as error:
                failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: 1 in versions_seen)
        publish(2)
        client.wait_for({1: END, 2: AVAILABLE})
        wait_until(lambda: 2 in versions_seen)
        (publish.base / "9").mkdir()
        client.wait_for({9: END, 2: AVAILABLE})
        (publish.base / "9").rmdir()
        versions_seen.clear()
        shutil.rmtree(publish.base / "2")
        client.wait_for({1: AVAILABLE, 2: END})
        wait_until(lambda: 1 in versions_seen)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_a_request_in_flight_finishes_on_the_version_that_it_started_on(serving, publish):
    publish(1)
    client = serving()
    client.wait_for({1: AVAILABLE})
    steps = np.array([300_000], np.int32)
    slow = client.prediction.Predict.future(
        client.request({"steps": steps}, signature="count"), timeout=60
    )
    model = client.running.server.manager._models["m"]
    wait_until(lambda: model.versions[0].uses)
    publish(2)
    client.wait_for({2: AVAILABLE})
    assert client.predict({"images": PIXELS}).version == 2
    assert client.status()[1] == "UNLOADING"
    answer = slow.result()
    assert answer.model_spec.version.value == 1
    assert list(answer.outputs["total"].int_val) == [300_001]
    client.wait_for({1: END})


@pytest.mark.parametrize("batching", [(), ("--enable_batching",)])
def test_a_version_is_loaded_until_the_operation_of_a_cancelled_request_ends(
    serving, publish, batching
):
    publish(1)
    client = serving(*batching)
    client.wait_for({1: AVAILABLE})
    servable = client.running.server.manager._models["m"].versions[0].servable
    run, go = servable.run, threading.Event()
    servable.run = lambda inputs: go.wait(60) and run(inputs)
    request = client.request({"images": PIXELS}, signature="reconstruct")
    with pytest.raises(grpc.RpcError, match="Deadline"):
        client.prediction.Predict(request, timeout=0.2)
    publish(2)
    client.wait_for({2: AVAILABLE})
    assert client.status()[1] == "UNLOADING"
    go.set()
    client.wait_for({1: END})


def test_an_unloaded_version_is_freed(serving, publish):
    publish(1)
    client = serving()
    client.wait_for({1: AVAILABLE})
    client.predict({"images": PIXELS})
    old = weakref.ref(client.running.server.manager._models["m"].versions[0].servable)
    publish(2)
    client.wait_for({1: END, 2: AVAILABLE})
    gc.collect()
    assert old() is None


def test_versions_are_loaded_in_separate_threads_and_replaced_ones_are_skipped(
    serving, publish, monkeypatch
):
    publish(1)
    client = serving()
    client.wait_for({1: AVAILABLE})
    load, loaded = model.Servable, []
    loading, go = threading.Event(), threading.Event()

    def slow(path):
        loaded.append((path.name, threading.get_ident()))
        loading.set()
        go.wait(60)
        return load(path)

    monkeypatch.setattr(model, "Servable", slow)
    publish(2)
    assert loading.wait(60)
    publish(3)
    wait_until(lambda: 3 in client.status())
    publish(3, version=4)
    wait_until(lambda: 4 in client.status())
    go.set()
    client.wait_for({1: END, 2: END, 3: END, 4: AVAILABLE})
    assert [name for name, _ in loaded] == ["2", "4"]
    assert len({thread for _, thread in loaded}) == 2


def test_a_missing_base_path_unloads_nothing(serving, publish):
    publish(1)
    client = serving()
    client.wait_for({1: AVAILABLE})
    away = publish.base.rename(publish.base.with_name("away"))
    polled = count_polls(client)
    wait_until(lambda: polled() > 2)
    assert client.predict({"images": PIXELS}).version == 1
    away.rename(publish.base)
    publish(2)
    client.wait_for({1: END, 2: AVAILABLE})


def test_a_base_path_that_is_moved_while_it_is_listed_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "m" / "1").mkdir(parents=True)
    is_dir = Path.is_dir

    def moved_first(path):
        if path.parent.exists():
            path.parent.rename(tmp_path / "away")
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", moved_first)
    with pytest.raises(FileNotFoundError):
        versions.find(tmp_path / "m")


def count_polls(client):
    model = client.running.server.manager._models["m"]
    count, poll = 0, model.poll

    async def counted():
        nonlocal count
        await poll()
        count += 1

    model.poll = counted
    return lambda: count


def test_an_empty_base_path_unloads_everything(serving, publish):
    shutil.rmtree(publish(1))
    publish(2)
    client = serving()
    client.wait_for({2: AVAILABLE})
    shutil.rmtree(publish.base / "2")
    client.wait_for({2: END})
    assert_refused(
        lambda: client.predict({"images": PIXELS}), grpc.StatusCode.NOT_FOUND, "Latest(m)"
    )


# Versions that cannot be loaded


def warm_up_with(folder, request):
    import tensorflow as tf

    log = PredictionLog()
    log.predict_log.request.CopyFrom(request)
    (folder / "assets.extra").mkdir()
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(path)) as file:
        file.write(log.SerializeToString())


def warm_up_request(alias="images"):
    request = PredictRequest()
    request.model_spec.signature_name = "reconstruct"
    request.inputs[alias].CopyFrom(to_proto(PIXELS))
    return request


def no_graph(folder):
    (folder / "saved_model.pb").unlink()


def broken_graph(folder):
    (folder / "saved_model.pb").write_bytes(b"\xff" * 100)


def no_variables(folder):
    shutil.rmtree(folder / "variables")


def half_written_variables(folder):
    [data] = folder.glob("variables/variables.data*")
    data.write_bytes(b"")


def broken_warm_up(folder):
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no record" * 9)


def failing_warm_up(folder):
    warm_up_with(folder, warm_up_request("image"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_graph, "saved_model.pb"),
        (broken_graph, "is not a SavedModel"),
        (no_variables, "variables.index is missing"),
        (half_written_variables, "Read less bytes than requested"),
        (broken_warm_up, "corrupted record at 0"),
        (failing_warm_up, "input tensor alias not found in request: images"),
    ],
)
def test_a_version_that_cannot_be_loaded_ends_and_the_old_one_serves(
    serving, publish, tiny, tmp_path, damage, message
):
    publish(1)
    client = serving()
    client.wait_for({1: AVAILABLE})
    shutil.copytree(tiny / "2", tmp_path / "2")
    damage(tmp_path / "2")
    (tmp_path / "2").rename(publish.base / "2")
    client.wait_for({1: AVAILABLE, 2: END})
    status = client.status_of(2)
    assert status.error_code
    assert status.error_message
    assert message in status.error_message
    assert client.predict({"images": PIXELS}).version == 1
    assert client.status_of(1).error_code == 0


def test_missing_variables_of_the_real_model_are_caught(start_server, base_path):
    shutil.rmtree(base_path / "1" / "variables")
    flags = ("--model_name=m", f"--model_base_path={base_path}", "--max_num_load_retries=0")
    with pytest.raises(ConfigurationError, match=r"variables\.index is missing"):
        start_server(*flags)


def test_warm_up_runs_before_the_swap(serving, publish, tiny, tmp_path):
    shutil.copytree(tiny / "2", tmp_path / "2")
    warm_up_with(tmp_path / "2", warm_up_request())
    publish(1)
    client = serving()
    (tmp_path / "2").rename(publish.base / "2")
    client.wait_for({2: AVAILABLE})
    assert client.predict({"images": PIXELS}).version == 2


def test_a_half_copied_version_is_loaded_once_it_is_complete(serving, publish, tiny):
    publish(1)
    client = serving("--max_num_load_retries=1000")
    folder = publish.base / "3"
    folder.mkdir()
    client.wait_for({3: "LOADING"})
    wait_until(lambda: client.status_of(3).error_code != 0)
    shutil.copytree(tiny / "3", folder, dirs_exist_ok=True)
    client.wait_for({3: AVAILABLE})
    assert client.status_of(3).error_message == ""


def test_a_failed_version_is_loaded_again_after_its_folder_was_removed(serving, publish):
    publish(1)
    client = serving()
    (publish.base / "2").mkdir()
    client.wait_for({2: END})
    polled = count_polls(client)
    (publish.base / "2").rmdir()
    wait_until(lambda: polled() > 2)
    publish(2)
    client.wait_for({2: AVAILABLE})
    assert client.predict({"images": PIXELS}).version == 2


# New configurations


def test_reload_adds_changes_and_removes_models(serving, publish, tmp_path):
    publish(1)
    publish(3, under=tmp_path / "other")
    client = serving()
    client.wait_for({1: AVAILABLE})
    client.reload(models(entry(publish.base), entry(tmp_path / "other", name="n")))
    assert client.predict({"images": PIXELS}, name="n").version == 3
    client.reload(models(entry(tmp_path / "other", name="n")))
    client.wait_for({1: END})
    assert_refused(
        lambda: client.predict({"images": PIXELS}), grpc.StatusCode.NOT_FOUND, "Latest(m)"
    )
    assert client.running.server.manager.models() == ["n"]


@pytest.mark.parametrize("name", ["n", "m"])
def test_a_slow_listing_does_not_load_a_removed_model_again(
    serving, publish, tmp_path, monkeypatch, name
):
    publish(1)
    publish(3, under=tmp_path / "other")
    listing, go, list_folder = threading.Event(), threading.Event(), versions.find

    def slow(base_path):
        found = list_folder(base_path)
        if base_path == publish.base:
            listing.set()
            go.wait(60)
        return found

    client = serving()
    client.wait_for({1: AVAILABLE})
    polled = count_polls(client)
    monkeypatch.setattr(versions, "find", slow)
    assert listing.wait(60)
    before = polled()
    client.reload(models(entry(tmp_path / "other", name=name)))
    client.wait_for({1: END})
    go.set()
    wait_until(lambda: polled() > before)
    assert client.status()[1] == END
    assert client.predict({"images": PIXELS}, name=name).version == 3


def test_another_base_path_is_loaded_even_with_the_same_numbers(serving, publish, tmp_path):
    publish(1)
    publish(3, version=1, under=tmp_path / "other")
    client = serving()
    client.wait_for({1: AVAILABLE})
    client.reload(models(entry(tmp_path / "other")))

    def is_new():
        answer = client.predict({"images": PIXELS})
        assert answer.version == 1
        return (answer.reconstructions == PIXELS + 3).all()

    wait_until(is_new)


def test_the_error_of_reload_names_models_without_a_version(serving, publish, tmp_path):
    publish(1)
    client = serving()
    client.wait_for({1: AVAILABLE})
    config = models(entry(publish.base), entry(tmp_path / "nothing", name="n"))
    message = "Some models did not become available: {n}"
    assert_refused(lambda: client.reload(config), grpc.StatusCode.UNKNOWN, message)
    assert client.predict({"images": PIXELS}).version == 1
    publish(2, under=tmp_path / "nothing")
    client.wait_for({2: AVAILABLE}, "n")


def test_labels_move_only_to_versions_that_are_available(serving, publish):
    publish(1)
    publish(2)
    client = serving()
    client.wait_for({2: AVAILABLE})
    every = "model_version_policy { all {} }"
    label = 'version_labels { key: "stable" value: %d }'
    first = models(entry(publish.base, f"{every} {label % 1}"))
    # Labels are checked before the reload loads versions.
    message = "version 1 of model m, which is not currently available for inference"
    assert_refused(lambda: client.reload(first), grpc.StatusCode.FAILED_PRECONDITION, message)
    assert client.status() == {2: AVAILABLE}
    client.reload(models(entry(publish.base, every)))
    client.reload(first)
    assert client.predict({"images": PIXELS}, label="stable").version == 1
    client.reload(models(entry(publish.base, f"{every} {label % 2}")))
    assert client.predict({"images": PIXELS}, label="stable").version == 2
    config = models(entry(publish.base, f"{every} {label % 7}"))
    message = "version 7 of model m"
    assert_refused(lambda: client.reload(config), grpc.StatusCode.FAILED_PRECONDITION, message)
    assert client.predict({"images": PIXELS}, label="stable").version == 2


def test_labels_ahead_are_new_or_stay(serving, publish):
    publish(1)
    client = serving(LABELS_AHEAD)
    client.wait_for({1: AVAILABLE})
    label = 'version_labels { key: "stable" value: %d }'
    for _ in range(2):
        client.reload(models(entry(publish.base, label % 2)))
    moved = models(entry(publish.base, label % 3))
    message = "version 3 of model m"
    assert_refused(lambda: client.reload(moved), grpc.StatusCode.FAILED_PRECONDITION, message)


def test_labels_at_the_start_need_a_flag(start_server, publish, tmp_path):
    publish(1)
    label = 'version_labels { key: "stable" value: 1 }'
    (tmp_path / "models").write_text(str(models(entry(publish.base, label))))
    file = f"--model_config_file={tmp_path}/models"
    with pytest.raises(ConfigurationError, match="Request to assign label to version 1 of model m"):
        start_server(file)
    client = start_server(file, LABELS_AHEAD)
    client.wait_for({1: AVAILABLE})
    assert client.predict({"images": PIXELS}, label="stable").version == 1


def test_a_changed_config_file_is_read_again(start_server, publish, tmp_path):
    publish(1)
    publish(2)
    file = tmp_path / "models"

    def write(text):
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(file)

    write(str(models(entry(publish.base))))
    client = start_server(f"--model_config_file={file}", config_poll_seconds=0.05)
    client.wait_for({2: AVAILABLE})
    write("no text proto")
    assert client.predict({"images": PIXELS}).version == 2
    write(str(models(entry(publish.base, "model_version_policy { specific { versions: 1 } }"))))
    client.wait_for({1: AVAILABLE, 2: END})


def test_a_config_file_that_failed_is_applied_again(start_server, publish, tmp_path, caplog):
    publish(1)
    file = tmp_path / "models"

    def write(*entries):
        (tmp_path / "new").write_text(str(models(*entries)))
        (tmp_path / "new").rename(file)

    def failures():
        return [r for r in caplog.records if "currently available" in r.getMessage()]

    every = "model_version_policy { all {} }"
    label = f'{every} version_labels {{ key: "canary" value: 2 }}'
    write(entry(publish.base, every))
    client = start_server(f"--model_config_file={file}", config_poll_seconds=0.05)
    client.wait_for({1: AVAILABLE})
    tries, reconfigure = [], client.running.server.manager.reconfigure

    async def counted(found):
        tries.append(found)
        await reconfigure(found)

    client.running.server.manager.reconfigure = counted
    write(entry(publish.base, label))
    wait_until(lambda: len(tries) > 3)
    assert len(failures()) == 1
    publish(2)
    wait_until(lambda: "canary" in client.running.server.manager._models["m"].labels)
    assert client.predict({"images": PIXELS}, label="canary").version == 2


def test_without_polling_new_versions_are_not_found(serving, publish):
    publish(1)
    client = serving(poll=0)
    client.wait_for({1: AVAILABLE})
    publish(2)
    client.reload(models(entry(publish.base)))
    assert 2 in client.status()
