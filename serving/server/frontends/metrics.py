"""Counts and latencies in the text format of Prometheus, named as by TensorFlow Serving."""

import re
from collections.abc import Callable, Collection
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
UNKNOWN_MODEL: Final = "(unknown)"
"""What requests for models that are not configured are counted under."""

_COUNT = ":tensorflow:serving:request_count"
_LATENCY = ":tensorflow:serving:request_latency"
# prometheus-client puts _total behind each counter's name and says when each series began.
_TOTAL = re.compile(rf"^((?:# (?:HELP|TYPE) )?{_COUNT})_total\b".encode(), re.MULTILINE)
_SERIES = [f"{_COUNT}_total", *(f"{_LATENCY}_{part}" for part in ("bucket", "sum", "count"))]
_MICROSECONDS = [10 * 1.8**power for power in range(33)]


class Metrics:
    """Requests by model and status, and how long those that succeeded took.

    Args:
        models: gives the names of the models that are configured. Others come from outside, and
            are counted together, so that nobody makes the page grow.
    """

    def __init__(self, models: Callable[[], Collection[str]]):
        self._models = models
        self._registry = CollectorRegistry()
        self._count = Counter(
            _COUNT,
            "Requests by model and status.",
            ["model_name", "status"],
            registry=self._registry,
        )
        self._latency = Histogram(
            _LATENCY,
            "Microseconds from the request to its answer.",
            ["model_name", "API", "entrypoint"],
            buckets=_MICROSECONDS,
            registry=self._registry,
        )

    def observe(
        self, model_name: str, status: str, api: str, entrypoint: str, seconds: float
    ) -> None:
        """Counts a request that was answered; its latency too, if its status is OK.

        Args:
            model_name: as in the request.
            status: name of the gRPC code, such as "OK" or "NOT_FOUND".
            api: "Predict" over gRPC, "predict" over REST, as by the real server.
            entrypoint: "GRPC" or "REST".
            seconds: from the request to its answer.
        """
        name = model_name if model_name in self._models() else UNKNOWN_MODEL
        self._count.labels(name, status).inc()
        if status == "OK":
            self._latency.labels(name, api, entrypoint).observe(seconds * 1e6)

    def exposition(self) -> bytes:
        """The page that Prometheus reads."""
        page = generate_latest(self._registry.restricted_registry(_SERIES))
        return _TOTAL.sub(rb"\1", page)
