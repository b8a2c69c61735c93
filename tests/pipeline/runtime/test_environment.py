import json
import os
import platform
from pathlib import Path

import jsonschema
import keras
import tensorflow as tf

from pipeline.runtime import environment

SCHEMA = Path(__file__).parents[3] / "keras_ae" / "comparison" / "comparison.schema.json"


def test_what_training_hangs_on_is_plain_json_as_the_schema_has_it():
    description = environment.describe()
    assert json.loads(json.dumps(description, allow_nan=False)) == description
    schema = json.loads(SCHEMA.read_text())
    place = {"$ref": "#/$defs/trained_on", "$defs": schema["$defs"]}
    jsonschema.validate({"stages": ["model_10"], **description}, place)
    assert description["backend"] == keras.backend.backend()
    assert description["packages"]["python"] == platform.python_version()
    assert description["packages"]["tensorflow"] == tf.__version__
    assert description["settings"]["deterministic_ops"] is False


def test_variables_that_change_results_are_described_and_secrets_are_not():
    variables = {
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
        "OMP_NUM_THREADS": "1",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "HOME": "/home/me",
        "TF_VAR_password": "x",
        "TF_CLI_CONFIG_FILE": "x",
        "TF_TOKEN_app": "x",
        "JAX_SECRET": "x",
    }
    assert list(environment.environment(variables)) == [
        "OMP_NUM_THREADS",
        "TF_ENABLE_ONEDNN_OPTS",
        "XLA_FLAGS",
    ]


def test_packages_that_are_not_installed_are_left_out():
    assert set(environment.packages(["keras", "no-such-package"])) == {"python", "keras"}


def test_the_machine_is_named_by_its_processor_where_that_is_known(tmp_path):
    text = "processor : 0\nmodel name : Fast CPU: 9 GHz\nflags : fpu avx2 amx_tile avx512f\n"
    (tmp_path / "cpuinfo").write_text(text * 2)
    machine = environment.machine(tmp_path / "cpuinfo")
    assert machine["processor"] == "Fast CPU: 9 GHz"
    assert machine["cpu_flags"] == ["avx2", "avx512f", "amx_tile"]
    assert machine["cores"] == len(os.sched_getaffinity(0))
    assert machine["memory_bytes"] > 10**8
    unknown = environment.machine(tmp_path / "missing")
    assert unknown["processor"]
    assert unknown["cpu_flags"] == []
