"""Request counts and latencies for Prometheus, named as those of TensorFlow Serving."""

import re
from collections.abc import Callable, Collection
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
UNKNOWN_MODEL: Final = "(unknown)"
"""The model name under which requests for models that are not configured are counted."""

_COUNT = ":tensorflow:serving:request_count"
_LATENCY = ":tensorflow:serving:request_latency"
# prometheus-client appends _total to the names of counters and adds a _created series.
_TOTAL = re.compile(rf"^((?:# (?:HELP|TYPE) )?{_COUNT})_total\b".encode(), re.MULTILINE)
_SERIES_NAMES = [f"{_COUNT}_total", *(f"{_LATENCY}_{part}" for part in ("bucket", "sum", "count"))]


class Metrics:
    """The number of requests by model and status, and the latency of successful ones.

    Args:
        models: returns the names of the configured models. Requests for other names are counted
            together, since clients could otherwise add series without limit.
    """

    def __init__(self, models: Callable[[], Collection[str]]):
        self._models, self._registry = models, CollectorRegistry()
        self._count = Counter(
            _COUNT,
            "Requests by model and status.",
            ["model_name", "status"],
            registry=self._registry,
        )
        self._latency = Histogram(
            _LATENCY,
            "Microseconds from the request to its response.",
            ["model_name", "API", "entrypoint"],
            buckets=[10 * 1.8**power for power in range(33)],
            registry=self._registry,
        )

    def observe(
        self, model_name: str, status: str, api: str, entrypoint: str, seconds: float
    ) -> None:
        """Counts a request, and its latency if the status is OK.

        Args:
            model_name: name of the model in the request.
            status: name of the gRPC status, such as "OK" or "NOT_FOUND".
            api: "Predict" over gRPC, "predict" over REST, as in TensorFlow Serving.
            entrypoint: "GRPC" or "REST".
            seconds: time from the request to its response.
        """
        name = model_name if model_name in self._models() else UNKNOWN_MODEL
        self._count.labels(name, status).inc()
        if status == "OK":
            self._latency.labels(name, api, entrypoint).observe(seconds * 1e6)

    def exposition(self) -> bytes:
        """Returns the metrics in the text format of Prometheus."""
        page = generate_latest(self._registry.restricted_registry(_SERIES_NAMES))
        return _TOTAL.sub(rb"\1", page)
