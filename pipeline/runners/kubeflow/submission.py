"""Uploads a compiled pipeline to Kubeflow, starts a run of it and waits for its end."""

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
import urllib.error
import urllib.request
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_ae import storage
from keras_ae.datasets.sources.open import open_source
from keras_ae.datasets.sources.parts import split_part
from keras_ae.errors import ConfigurationError, KerasAEError, StorageError, UnavailableError
from pipeline.runners.preflight import check_reachable
from pipeline.runtime import console, versions

TOKEN = "KF_PIPELINES_TOKEN"
"""Environment variable of a bearer token for Kubeflow."""
POLL_SECONDS = 10
"""Time between two requests for the state of a run."""
_ANSWER_SECONDS = 20
_MAX_FAILED_POLLS = 6
"""Requests for the state of a run that may fail one after another."""
_END_STATES = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")


def submit(arguments: argparse.Namespace, text: str, parameters: Sequence[str]) -> None:
    """Starts a run of a pipeline, and waits for its end with `--wait`.

    Args:
        arguments: of `pipeline.run_kubeflow.parse_arguments`.
        text: the compiled pipeline as YAML.
        parameters: names of the runtime parameters to set.

    Raises:
        UnavailableError: if Kubeflow stops answering.
        KerasAEError: for data that cannot be read, a run that Kubeflow refuses, or one that is
            waited for and does not succeed.
    """
    values = {"data": arguments.data, "preset": arguments.preset, "seed": arguments.seed}
    values["data_fingerprint"] = fingerprint(arguments)
    client = _client(arguments)
    run = _start_run(client, arguments, text, {name: values[name] for name in parameters})
    console.say(f"run: {run}")
    console.say(f"see: {arguments.host.rstrip('/')}/#/runs/details/{run}")
    if arguments.wait:
        wait(client, run)


def check(arguments: argparse.Namespace) -> None:
    """Checks, before the pipeline is compiled, that its host and its root can be reached.

    Raises:
        UnavailableError: if no Kubeflow Pipelines answers at the host within a few seconds.
        StorageError: for a pipeline root that cannot be reached.
    """
    host = arguments.host
    url = f"{host.rstrip('/')}/apis/v2beta1/healthz"
    try:
        # As kfp's client, which ignores proxies in the environment.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(url, timeout=_ANSWER_SECONDS) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            raise UnavailableError(
                f"{host} is not Kubeflow Pipelines: {url} answers HTTP {error.code}"
            ) from error
    except ValueError as error:
        raise UnavailableError(f"{host} is not Kubeflow Pipelines: {url} is not JSON") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise UnavailableError(f"no Kubeflow Pipelines answers at {host}: {reason}") from error
    check_reachable(arguments.pipeline_root)


def fingerprint(arguments: argparse.Namespace) -> str:
    """The text that represents the content of the data in Kubeflow's cache keys.

    It is the value of `--data-fingerprint`, or else computed from the data if this machine can
    read it, or else unique to this run.
    """
    if arguments.data_fingerprint:
        return str(arguments.data_fingerprint)
    data = arguments.data
    if Path(data).is_absolute() and not Path(split_part(data)[0]).exists():
        console.say(
            f"note: {data} is not on this machine: ingest and all later steps will run again; "
            "with --data-fingerprint TEXT cached results are used until you change the text"
        )
        return uuid.uuid4().hex
    options = arguments.config.source_options
    return open_source(data, leave_out=arguments.own_folders, **options).fingerprint()


def in_service(arguments: argparse.Namespace) -> str | None:
    """The model in service that the run compares its own with, and that it may replace.

    It is the value of `--incumbent-uri`, or else the newest version in the push folder if this
    machine can read it. None if there is none.
    """
    base = arguments.push_dir
    if arguments.incumbent_uri:
        return str(arguments.incumbent_uri)
    try:
        if storage.is_uri(base):
            check_reachable(base)
        elif not Path(base).is_dir():
            raise StorageError(f"no folder {base} on this machine")
        newest = versions.newest_version(base)
    except StorageError as error:
        console.say(
            f"note: the model in service is not known here: {error}; if there is one, name it with "
            "--incumbent-uri, or nothing will be pushed"
        )
        return None
    if newest is None:
        return None
    console.say(f"in service: {newest}")
    return str(newest)


def wait(client: Any, run: str) -> None:
    """Polls the run with an id by a `kfp.Client` until it has ended.

    Raises:
        KerasAEError: if it did not succeed; names the steps that failed.
    """
    last_state, start, failures = "", time.monotonic(), 0
    while True:
        try:
            details, failures = client.get_run(run), 0
        except Exception as error:  # kfp documents none, and passes on those of its libraries.
            failures += 1
            if failures >= _MAX_FAILED_POLLS:
                raise UnavailableError(
                    f"Kubeflow stopped answering for run {run}: {_reason(error)}; it may continue"
                ) from error
            time.sleep(POLL_SECONDS)
            continue
        state, passed = str(details.state or "PENDING").upper(), time.monotonic() - start
        if state != last_state:
            console.say(f"  {state.lower()} after {passed:.0f} s")
            last_state = state
        if state in _END_STATES:
            break
        running = ", ".join(_steps(details, "RUNNING")) or state.lower()
        console.hint(f"  {running} after {passed:.0f} s ...")
        time.sleep(POLL_SECONDS)
    if state != "SUCCEEDED":
        failed = _steps(details, "FAILED")
        where = f": failed in {', '.join(failed)}" if failed else ""
        raise KerasAEError(f"the run {run} ended as {state.lower()}{where}")


def _client(arguments: argparse.Namespace) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kfp

        own = {"namespace": arguments.namespace} if arguments.namespace else {}
        token = os.environ.get(TOKEN) or None
        try:
            return kfp.Client(host=arguments.host, existing_token=token, **own)
        except Exception as error:
            raise UnavailableError(
                f"no Kubeflow Pipelines answers at {arguments.host}: {_reason(error)}"
            ) from error


def _start_run(
    client: Any, arguments: argparse.Namespace, text: str, parameters: dict[str, Any]
) -> str:
    """Starts a run and returns its id. What kfp prints is dropped."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{arguments.name}.yaml"
        path.write_text(text)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                run = client.create_run_from_pipeline_package(
                    str(path),
                    arguments=parameters,
                    run_name=arguments.run_name,
                    experiment_name=arguments.experiment,
                    namespace=arguments.namespace,
                    pipeline_root=arguments.pipeline_root,
                    enable_caching=False if arguments.no_cache else None,
                )
        except Exception as error:
            raise ConfigurationError(
                f"Kubeflow at {arguments.host} refuses the run: {_reason(error)}"
            ) from error
    return str(run.run_id)


def _reason(error: Exception) -> str:
    """The message in Kubeflow's answer, or else the error, in one line."""
    body = getattr(error, "body", None)
    try:
        answer = json.loads(body or "")
        text = answer.get("message") or answer.get("error_details") or answer.get("error")
    except (ValueError, AttributeError):
        text = None
    code = getattr(error, "status", None)
    status = f"HTTP {code} " if code else ""
    return " ".join(str(text or f"{status}{getattr(error, 'reason', None) or error}").split())[:500]


def _steps(run: Any, state: str) -> list[str]:
    details = run.run_details.task_details if run.run_details else None
    names = {
        task.display_name
        for task in details or ()
        # Kubeflow lists the driver of a step as a step, too.
        if task.state == state and task.display_name and not task.display_name.endswith("-driver")
    }
    return sorted(names - {"root"})
