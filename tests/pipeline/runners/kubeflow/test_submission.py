import json
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from keras_ae.errors import StorageError
from pipeline import run_kubeflow
from pipeline.runners.kubeflow import submission
from tests.pipeline.runners.kubeflow.test_runner import GOLDEN

RUN = "0b1c2d3e"


class Kubeflow(ThreadingHTTPServer):
    """The few paths of Kubeflow Pipelines' REST API that a submission needs.

    Attributes:
        states: states of the run in the answers to successive requests; the last one stays.
        refusal: message with which the creation of a run fails (HTTP 400); none if empty.
        requests: method and path of all requests.
        run: the run that was created.
    """

    def __init__(self, states: list[str]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.states, self.refusal, self.requests = states, "", []
        self.run: dict = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Kubeflow

    def do_GET(self) -> None:
        path = self._path()
        if path == "/apis/v2beta1/healthz":
            self._answer({"multi_user": False})
        elif path == "/apis/v2beta1/experiments":
            self._answer({})
        elif path == f"/apis/v2beta1/runs/{RUN}":
            states = self.server.states
            state = states.pop(0) if len(states) > 1 else states[0]
            details = [
                {"display_name": "Trainer-10", "state": state},
                {"display_name": "Trainer-10-driver", "state": state},
                {"display_name": "Transform", "state": "SUCCEEDED"},
            ]
            run = {"run_id": RUN, "state": state, "run_details": {"task_details": details}}
            self._answer(run)
        else:
            self._answer({"message": f"no {path}"}, 404)

    def do_POST(self) -> None:
        path = self._path()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if path == "/apis/v2beta1/experiments":
            self._answer({"experiment_id": "e1", "display_name": body["display_name"]})
        elif self.server.refusal:
            self._answer({"message": self.server.refusal}, 400)
        else:
            self.server.run = body
            self._answer({"run_id": RUN})

    def log_message(self, *_: object) -> None:
        pass

    def _path(self) -> str:
        path = self.path.split("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        return path

    def _answer(self, body: dict, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def kubeflow() -> Iterator[Kubeflow]:
    server = Kubeflow(["PENDING", "RUNNING", "SUCCEEDED"])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def submit(kubeflow, monkeypatch):
    """Submits the golden pipeline with flags; compiling it is tested elsewhere."""
    monkeypatch.setattr(
        "pipeline.runners.kubeflow.runner.compiled", lambda arguments: GOLDEN.read_text()
    )
    monkeypatch.setattr(submission, "POLL_SECONDS", 0.01)

    def check(uri: str) -> None:
        raise StorageError(f"cannot write to {uri}: there is no bucket")

    def status(*flags: str, reachable: bool = True) -> int:
        # Access to a bucket is tested elsewhere.
        found = (lambda uri: None) if reachable else check
        monkeypatch.setattr(submission, "check_reachable", found)
        monkeypatch.setattr(submission.versions, "newest_version", lambda base: None)
        given = ["--image", "keras-ae:1", "--pipeline-root", "gs://bucket/root", "--submit"]
        return run_kubeflow.main([*given, "--host", kubeflow.url, *flags])

    return status


def test_a_run_gets_pipeline_root_parameters_and_experiment(submit, kubeflow, capsys):
    flags = ["--preset", "small", "--seed", "3", "--experiment", "mine", "--run-name", "first"]
    assert submit(*flags, "--data", "sample", "--data-fingerprint", "v1") == 0
    run = kubeflow.run
    assert run["display_name"] == "first"
    assert run["experiment_id"] == "e1"
    assert run["runtime_config"] == {
        "pipeline_root": "gs://bucket/root",
        "parameters": {"data": "sample", "data_fingerprint": "v1", "preset": "small", "seed": 3},
    }
    assert run["pipeline_spec"]["pipeline_spec"]["schemaVersion"] == "2.1.0"
    executors = run["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]
    assert "Trainer_10_executor" in executors["executors"]
    tasks = run["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert tasks["Transform"]["cachingOptions"] == {"enableCache": True}
    assert "cachingOptions" not in tasks["Pusher"]
    assert capsys.readouterr().out.splitlines() == [
        f"run: {RUN}",
        f"see: {kubeflow.url}/#/runs/details/{RUN}",
    ]
    assert f"GET /apis/v2beta1/runs/{RUN}" not in kubeflow.requests


def test_the_fingerprint_is_that_of_data_which_this_machine_sees(
    submit, kubeflow, tmp_path, encode, photographs
):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.png").write_bytes(encode(photographs[0], "PNG"))
    flags = ["--volume", f"images:{tmp_path}", "--data", f"{tmp_path}/images"]
    fingerprints = []
    for name in ("one.png", "two.png"):
        (tmp_path / "images" / name).write_bytes(encode(photographs[0], "PNG"))
        assert submit(*flags) == 0
        fingerprints.append(kubeflow.run["runtime_config"]["parameters"]["data_fingerprint"])
    assert submit(*flags) == 0
    again = kubeflow.run["runtime_config"]["parameters"]["data_fingerprint"]
    assert fingerprints[0] != fingerprints[1] == again


def test_data_that_only_the_cluster_sees_gets_a_new_fingerprint_each_time(submit, kubeflow, capsys):
    fingerprints = set()
    for _ in range(2):
        assert submit("--volume", "images:/not-here", "--data", "/not-here/images.zip") == 0
        fingerprints.add(kubeflow.run["runtime_config"]["parameters"]["data_fingerprint"])
        assert "note: /not-here/images.zip is not on this machine" in capsys.readouterr().out
    assert len(fingerprints) == 2


def test_the_model_in_service_is_the_newest_version_where_this_machine_sees_it(
    bucket, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(submission, "check_reachable", lambda uri: None)
    flags = ["--image", "keras-ae:1", "--pipeline-root", f"{bucket.uri}/root", "--submit"]
    flags += ["--host", "http://127.0.0.1:1", "--volume", f"models:{tmp_path}"]

    def in_service(*more: str) -> str | None:
        return submission.in_service(run_kubeflow.parse_arguments([*flags, *more]))

    assert in_service() is None
    for number in (2, 10):
        bucket.write(f"root/serving/keras_ae/{number}/saved_model.pb", b"graph")
        (tmp_path / "push" / str(number)).mkdir(parents=True)
    assert capsys.readouterr().out == ""
    newest = f"{bucket.uri}/root/serving/keras_ae/10"
    assert in_service() == newest
    assert capsys.readouterr().out == f"in service: {newest}\n"
    assert in_service("--push-dir", f"{tmp_path}/push") == f"{tmp_path}/push/10"
    assert in_service("--incumbent-uri", f"{bucket.uri}/model") == f"{bucket.uri}/model"
    capsys.readouterr()
    assert in_service("--push-dir", f"{tmp_path}/elsewhere") is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        f"note: the model in service is not known here: no folder {tmp_path}/elsewhere on this "
        "machine; if there is one, name it with --incumbent-uri, or nothing will be pushed"
    )


def test_a_submitted_pipeline_compares_with_the_model_in_service(submit, monkeypatch):
    compiled = []
    monkeypatch.setattr(
        "pipeline.runners.kubeflow.runner.compiled",
        lambda arguments: compiled.append(arguments.incumbent_uri) or GOLDEN.read_text(),
    )
    monkeypatch.setattr(submission, "in_service", lambda arguments: f"{arguments.push_dir}/7")
    assert submit() == 0
    assert compiled == ["gs://bucket/root/serving/keras_ae/7"]


def test_without_cache_no_step_is_cached(submit, kubeflow):
    assert submit("--no-cache") == 0
    tasks = kubeflow.run["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert not any(task.get("cachingOptions", {}).get("enableCache") for task in tasks.values())


def test_a_run_that_is_waited_for_prints_its_states(submit, kubeflow, capsys):
    assert submit("--wait") == 0
    states = [line.split(" after")[0].strip() for line in capsys.readouterr().out.splitlines()[2:]]
    assert states == ["pending", "running", "succeeded"]


@pytest.mark.parametrize(
    ("state", "text"),
    [("FAILED", "ended as failed: failed in Trainer-10$"), ("CANCELED", "ended as canceled$")],
)
def test_a_run_that_does_not_succeed_is_reported_in_one_line(submit, kubeflow, capsys, state, text):
    kubeflow.states = ["RUNNING", state]
    assert submit("--wait") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(f"^error: the run {RUN} {text}", line)


def test_what_kubeflow_refuses_is_reported_in_its_own_words(submit, kubeflow, capsys):
    kubeflow.refusal = "invalid pipeline job inputs:\n parameter preset is missing"
    assert submit() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: Kubeflow at {kubeflow.url} refuses the run: ")
    assert line.endswith("invalid pipeline job inputs: parameter preset is missing")


def test_a_host_that_does_not_answer_is_reported_in_one_line(submit, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert submit("--host", f"http://127.0.0.1:{port}") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: no Kubeflow Pipelines answers at http://127.0.0.1:{port}: ")


def test_a_host_that_is_something_else_is_reported_in_one_line(submit, kubeflow, capsys):
    assert submit("--host", f"{kubeflow.url}/elsewhere") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not Kubeflow Pipelines" in line
    assert "HTTP 404" in line


def test_a_pipeline_root_that_cannot_be_reached_is_reported_in_one_line(submit, kubeflow, capsys):
    assert submit("--pipeline-root", "gs://bucket/root", reachable=False) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: cannot write to gs://bucket/root: there is no bucket"
    assert kubeflow.run == {}
