import os
import platform

import keras
import tensorflow as tf

from pipeline.runtime import environment


def test_what_training_depends_on_is_described():
    described = environment.describe()
    assert described.backend == keras.backend.backend()
    assert described.packages["python"] == platform.python_version()
    assert described.packages["tensorflow"] == tf.__version__
    assert described.settings.deterministic_ops is False


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
    assert list(environment.relevant_variables(variables)) == [
        "OMP_NUM_THREADS",
        "TF_ENABLE_ONEDNN_OPTS",
        "XLA_FLAGS",
    ]


def test_packages_that_are_not_installed_are_left_out():
    assert set(environment.packages(["keras", "no-such-package"])) == {"python", "keras"}


def test_the_machine_has_the_name_and_features_of_its_processor(tmp_path):
    text = "processor : 0\nmodel name : Fast CPU: 9 GHz\nflags : fpu avx2 amx_tile avx512f\n"
    (tmp_path / "cpuinfo").write_text(text * 2)
    machine = environment.machine(tmp_path / "cpuinfo")
    assert machine.processor == "Fast CPU: 9 GHz"
    assert machine.cpu_flags == ("avx2", "avx512f", "amx_tile")
    assert machine.cores == len(os.sched_getaffinity(0))
    assert machine.memory_bytes > 10**8
    unknown = environment.machine(tmp_path / "missing")
    assert unknown.processor
    assert unknown.cpu_flags == ()
