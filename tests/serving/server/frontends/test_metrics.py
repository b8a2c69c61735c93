import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.server.frontends.metrics import Metrics

COUNT = ":tensorflow:serving:request_count"
LATENCY = ":tensorflow:serving:request_latency"


@pytest.fixture
def metrics():
    return Metrics(lambda: ["keras_ae", 'a"quoted\\name'])


def samples(metrics):
    """{(name, sorted labels): value}; the parser, unlike Prometheus, adds _total to counters."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name.removesuffix("_total"), *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_are_counted_by_model_and_status(metrics):
    metrics.observe("keras_ae", "OK", "Predict", "GRPC", 0.5)
    metrics.observe("keras_ae", "OK", "predict", "REST", 0.5)
    metrics.observe("keras_ae", "INVALID_ARGUMENT", "predict", "REST", 0.5)
    found = samples(metrics)
    assert found[COUNT, ("model_name", "keras_ae"), ("status", "OK")] == 2
    assert found[COUNT, ("model_name", "keras_ae"), ("status", "INVALID_ARGUMENT")] == 1


def test_the_counter_has_the_real_servers_name_and_type(metrics):
    metrics.observe("keras_ae", "OK", "Predict", "GRPC", 0.5)
    lines = metrics.exposition().decode().splitlines()
    assert f"# TYPE {COUNT} counter" in lines
    assert f'{COUNT}{{model_name="keras_ae",status="OK"}} 1.0' in lines
    assert not [line for line in lines if "_total" in line or "_created" in line]


def test_latencies_are_microseconds_by_api_and_entrypoint(metrics):
    metrics.observe("keras_ae", "OK", "Predict", "GRPC", 0.25)
    metrics.observe("keras_ae", "OK", "Predict", "GRPC", 0.5)
    labels = [("API", "Predict"), ("entrypoint", "GRPC"), ("model_name", "keras_ae")]
    found = samples(metrics)
    assert found[f"{LATENCY}_sum", *labels] == 750_000
    assert found[f"{LATENCY}_count", *labels] == 2
    buckets = {
        dict(labels)["le"]: value
        for (name, *labels), value in found.items()
        if name == f"{LATENCY}_bucket"
    }
    assert buckets["10.0"] == 0
    assert buckets["18.0"] == 0
    assert buckets["+Inf"] == 2


def test_the_latency_of_a_refusal_does_not_count(metrics):
    metrics.observe("keras_ae", "NOT_FOUND", "Predict", "GRPC", 0.25)
    assert not [name for name, *_ in samples(metrics) if name.startswith(LATENCY)]


def test_unknown_model_names_do_not_add_series(metrics):
    metrics.observe("nobody", "NOT_FOUND", "predict", "REST", 0.1)
    size = len(samples(metrics))
    for index in range(1000):
        metrics.observe(f"made up {index}", "NOT_FOUND", "predict", "REST", 0.1)
    assert len(samples(metrics)) == size
    assert samples(metrics)[COUNT, ("model_name", "(unknown)"), ("status", "NOT_FOUND")] == 1001


def test_a_model_may_have_any_name(metrics):
    metrics.observe('a"quoted\\name', "OK", "predict", "REST", 0.1)
    assert samples(metrics)[COUNT, ("model_name", 'a"quoted\\name'), ("status", "OK")] == 1


def test_a_model_with_the_name_of_the_counter_keeps_its_name():
    name = f"{COUNT}_total"
    metrics = Metrics(lambda: [name])
    metrics.observe(name, "OK", "predict", "REST", 0.1)
    assert samples(metrics)[COUNT, ("model_name", name), ("status", "OK")] == 1
