"""A compiled pipeline on its way to Kubeflow: uploaded, started and waited for."""

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

from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import ConfigurationError, KerasAEError, UnavailableError
from pipeline.runners.preflight import check_reachable
from pipeline.runtime import console

TOKEN = "KF_PIPELINES_TOKEN"
"""Environment variable of a bearer token for Kubeflow."""
SECONDS = 10
"""Between two looks at a run that is waited for."""
_ANSWER = 20
_PATIENCE = 6
"""Looks that may fail one after another."""
_DONE = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")


def submit(arguments: argparse.Namespace, text: str, parameters: Sequence[str]) -> None:
    """Starts a run of a compiled pipeline, and waits for its end if asked.

    Args:
        arguments: of `pipeline.run_kubeflow.parse_arguments`.
        text: the pipeline as YAML.
        parameters: names of what the run is given.

    Raises:
        UnavailableError: if Kubeflow answers no more.
        KerasAEError: for data that cannot be read, a run that Kubeflow refuses, or one that is
            waited for and does not succeed.
    """
    told = {"data": arguments.data, "preset": arguments.preset, "seed": arguments.seed}
    told["data_fingerprint"] = fingerprint(arguments)
    client = _client(arguments)
    run = _started(client, arguments, text, {name: told[name] for name in parameters})
    console.say(f"run: {run}")
    console.say(f"see: {arguments.host.rstrip('/')}/#/runs/details/{run}")
    if arguments.wait:
        wait(client, run)


def check(arguments: argparse.Namespace) -> None:
    """Asks host and pipeline root whether a run could be started at all, before it is compiled.

    Raises:
        UnavailableError: if no Kubeflow Pipelines answers at the host.
        StorageError: for a pipeline root that cannot be reached.
    """
    check_host(arguments.host)
    check_reachable(arguments.pipeline_root)


def check_host(host: str) -> None:
    """Asks a host how Kubeflow Pipelines is, and waits for its answer for a few seconds only."""
    url = f"{host.rstrip('/')}/apis/v2beta1/healthz"
    try:
        # kfp's client takes no proxy from the environment either.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(url, timeout=_ANSWER) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            raise UnavailableError(
                f"{host} is not Kubeflow Pipelines: {url} answers HTTP {error.code}"
            ) from error
    except ValueError as error:
        raise UnavailableError(f"{host} is not Kubeflow Pipelines: {url} is no JSON") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise UnavailableError(f"no Kubeflow Pipelines answers at {host}: {reason}") from error


def fingerprint(arguments: argparse.Namespace) -> str:
    """What stands for the content of the data in Kubeflow's cache keys.

    The text that was given, or else what the data itself says if this machine sees it, or else one
    that no run has had.
    """
    data = arguments.data
    if arguments.data_fingerprint:
        return str(arguments.data_fingerprint)
    if Path(data).is_absolute() and not Path(data).exists():
        console.say(
            f"note: {data} is not on this machine: ingest and all that follows will run anew; "
            "with --data-fingerprint TEXT what is cached serves until you change the text"
        )
        return uuid.uuid4().hex
    return open_source(data).fingerprint()


def wait(client: Any, run: str) -> None:
    """Looks at a run until it has ended.

    Args:
        client: of kfp.
        run: its id.

    Raises:
        KerasAEError: if it did not succeed; names the steps that failed.
    """
    before, began, failures = "", time.monotonic(), 0
    while True:
        try:
            found = client.get_run(run)
            failures = 0
        except Exception as error:
            failures += 1
            if failures >= _PATIENCE:
                raise UnavailableError(
                    f"Kubeflow tells no more of the run {run}: {_reason(error)}; it may go on"
                ) from error
            time.sleep(SECONDS)
            continue
        state = str(found.state or "PENDING").upper()
        if state != before:
            console.say(f"  {state.lower()} after {time.monotonic() - began:.0f} s")
            before = state
        if state in _DONE:
            break
        console.hint(f"  {_running(found)} after {time.monotonic() - began:.0f} s ...")
        time.sleep(SECONDS)
    if state != "SUCCEEDED":
        failed = _steps(found, "FAILED")
        where = f": failed in {', '.join(failed)}" if failed else ""
        raise KerasAEError(f"the run {run} ended as {state.lower()}{where}")


def _client(arguments: argparse.Namespace) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kfp

        own = {"namespace": arguments.namespace} if arguments.namespace else {}
        try:
            return kfp.Client(
                host=arguments.host, existing_token=os.environ.get(TOKEN) or None, **own
            )
        except Exception as error:
            raise UnavailableError(
                f"no Kubeflow Pipelines answers at {arguments.host}: {_reason(error)}"
            ) from error


def _started(client: Any, arguments: argparse.Namespace, text: str, told: dict[str, Any]) -> str:
    """The id of a new run. What kfp prints itself is passed over."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"{arguments.name}.yaml"
        path.write_text(text)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                run = client.create_run_from_pipeline_package(
                    str(path),
                    arguments=told,
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
    """What Kubeflow says itself, or else the error, in one line."""
    body = getattr(error, "body", None)
    try:
        told = json.loads(body or "")
        text = told.get("message") or told.get("error_details") or told.get("error")
    except (ValueError, AttributeError):
        text = None
    code = getattr(error, "status", None)
    status = f"HTTP {code} " if code else ""
    return " ".join(str(text or f"{status}{getattr(error, 'reason', None) or error}").split())[:500]


def _steps(run: Any, state: str) -> list[str]:
    details = run.run_details.task_details if run.run_details else None
    found = {
        task.display_name
        for task in details or ()
        # Kubeflow lists what drives a step as a step.
        if task.state == state and task.display_name and not task.display_name.endswith("-driver")
    }
    return sorted(found - {"root"})


def _running(run: Any) -> str:
    return ", ".join(_steps(run, "RUNNING")) or str(run.state or "pending").lower()
