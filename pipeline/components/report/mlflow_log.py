"""Logs the comparison as a run in MLflow, if the user gives the address of a server."""

import dataclasses
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from keras_ae.comparison.records import Comparison, Run
from keras_ae.errors import first_line
from keras_ae.scores import MODEL
from pipeline.components.report.curves import points
from pipeline.runtime.settings import Settings

_METRICS_PER_REQUEST = 500
"""MLflow's maximum is 1,000."""
_MAX_CHARACTERS = 5000
"""Maximum length of a param or a tag; MLflow's maximum is 6,000 and 8,000."""
_SETTINGS = {
    # Seconds. MLflow would otherwise retry for half an hour if a server does not answer.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
_SERVER = "give the address of a server, such as http://127.0.0.1:5000"
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true"}
_RUN_PARAMS = {
    *("data", "data_fingerprint", "images", "preset", "seed", "seeds", "batch_size", "backend"),
    *("channels", "stride", "latent_channels", "parameters", "flops_per_pixel"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MlflowSettings(Settings):
    """Settings of logging to MLflow.

    Attributes:
        mlflow_uri: address of a tracking server; None to log nothing.
        mlflow_experiment: name of the experiment.
    """

    mlflow_uri: str | None
    mlflow_experiment: str


def log(
    uri: str, experiment: str, comparison: Comparison, files: Sequence[Path]
) -> tuple[str, str]:
    """Logs a run with params, metrics over epochs, tags and files; the experiment is created if it
    is missing.

    Nothing is raised, so that a report is not lost because a server does not answer.

    Returns:
        The id of the run, and an error message; one of them is empty.
    """
    try:
        with _environment():
            return _log(uri, experiment, comparison, files), ""
    except Exception as error:  # Each of the client's libraries has errors of its own.
        logging.warning("MLflow at %s", uri, exc_info=True)
        return "", f"nothing was logged to MLflow at {uri}: {_reason(error, uri)}"


def params(comparison: Comparison) -> dict[str, str]:
    """The settings of the run, as MLflow's params."""
    run = comparison.run or Run()
    budgets = [str(budget.epochs) for budget in comparison.budgets]
    values = run.model_dump(mode="json", include=_RUN_PARAMS, exclude_unset=True)
    settings = {"budgets": ",".join(budgets), "tolerance": comparison.tolerance, **values}
    return {name: str(value)[:_MAX_CHARACTERS] for name, value in settings.items()}


def tags(comparison: Comparison) -> dict[str, str]:
    """The results of the run, as MLflow's tags; the answer is the run's description."""
    answer = comparison.answer
    notes = [f"- {note.text}" for note in answer.notes]
    texts = {
        "chosen_epochs": str(comparison.chosen.epochs),
        "chosen_reason": comparison.chosen.reason,
        "mlflow.note.content": "\n".join([answer.sentence, "", *notes]).strip(),
        "mlflow.source.name": "keras-ae",
    }
    if verdict := comparison.verdict:
        texts["blessed"] = str(verdict.blessed).lower()
        texts["verdict"] = "; ".join(check.text for check in verdict.checks)
    if comparison.run and comparison.run.git:
        texts["mlflow.source.git.commit"] = comparison.run.git.commit
    return {name: text[:_MAX_CHARACTERS] for name, text in texts.items()}


def metrics(comparison: Comparison) -> Iterator[tuple[str, int, float]]:
    """Names, steps (epochs) and values, such as ("val/psnr", 10, 28.1)."""
    for kind, split, metric, epochs, value in points(comparison):
        prefix = "" if kind == MODEL else f"{kind}/"
        yield f"{prefix}{split}/{metric}", epochs, value
    for budget in comparison.budgets:
        yield "seconds", budget.epochs, budget.total_seconds


def _log(uri: str, experiment: str, comparison: Comparison, files: Sequence[Path]) -> str:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(tracking_uri=uri)
    existing = client.get_experiment_by_name(experiment)
    experiment_id = existing.experiment_id if existing else client.create_experiment(experiment)
    run = comparison.run or Run()
    name = f"{run.preset} {run.created}"
    created = client.create_run(experiment_id, tags=tags(comparison), run_name=name)
    run_id = str(created.info.run_id)
    try:
        settings = [Param(name, value) for name, value in params(comparison).items()]
        client.log_batch(run_id, params=settings)
        now = int(time.time() * 1000)
        values = [Metric(name, value, now, step) for name, step, value in metrics(comparison)]
        for start in range(0, len(values), _METRICS_PER_REQUEST):
            client.log_batch(run_id, metrics=values[start : start + _METRICS_PER_REQUEST])
        for file in files:
            client.log_artifact(run_id, str(file))
    except Exception:  # Raised again, also if the server cannot be told.
        with suppress(Exception):
            client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    return run_id


def _reason(error: Exception, uri: str) -> str:
    """What is wrong and what to do, in one line."""
    if isinstance(error, ImportError):
        if error.name == "mlflow":
            return "the package is missing; install it with: pip install mlflow-skinny"
        return f"{error}; {_SERVER}"
    from requests import RequestException

    current: BaseException | None = error
    while current is not None:
        if isinstance(current, RequestException):
            return "no server answers there; start it or fix the address, then run again"
        current = current.__cause__ or current.__context__
    advice = "fix that, then run again"
    if urlsplit(uri).scheme in ("", "file"):
        advice = f"{_SERVER}, or set MLFLOW_ALLOW_FILE_STORE=true"
    return f"{first_line(error).split('. ')[0][:300]}; {advice}"


@contextmanager
def _environment() -> Iterator[None]:
    """Sets variables that MLflow reads at each request, unless the user has; disables telemetry."""
    before = dict(os.environ)
    os.environ.update({**_SETTINGS, **before, **_QUIET})
    try:
        yield
    finally:
        for name in (*_SETTINGS, *_QUIET):
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
