"""The environment of a process: machine, packages, settings. Results depend on all of them."""

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_ae.stages import Environment, Machine, ThreadSettings
from pipeline.runtime import memory
from pipeline.runtime.fingerprint import LIBRARIES

PACKAGES = (*LIBRARIES, "jax", "ml-metadata", "tensorflow-datasets")
CPU_FLAGS = (
    *("avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8"),
)
"""CPU features that oneDNN, XLA and Eigen choose kernels by, which sum in different orders."""

_PREFIXES = ("CUDA_", "DNNL_", "JAX_", "KERAS_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_", "TF_")
_NAMES = ("NVIDIA_TF32_OVERRIDE", "PYTHONHASHSEED", "XLA_FLAGS")
_TERRAFORM = (
    *("TF_CLI_", "TF_DATA_DIR", "TF_IN_", "TF_INPUT"),
    *("TF_LOG", "TF_PLUGIN_", "TF_VAR_", "TF_WORKSPACE"),
)
"""Prefixes of Terraform's variables, which TensorFlow does not read."""
_SECRET = ("TOKEN", "KEY", "SECRET", "PASSWORD", "CREDENTIAL")


def describe() -> Environment:
    """Describes the environment of this process."""
    return Environment(
        machine=machine(),
        packages=packages((*PACKAGES, keras.backend.backend())),
        backend=keras.backend.backend(),
        environment=relevant_variables(os.environ),
        settings=ThreadSettings(
            intra_op_threads=tf.config.threading.get_intra_op_parallelism_threads(),
            inter_op_threads=tf.config.threading.get_inter_op_parallelism_threads(),
            deterministic_ops=_ops_are_deterministic(),
        ),
    )


def packages(names: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed, and of Python, by name."""
    versions = {"python": platform.python_version()}
    for name in sorted(set(names)):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """Describes this machine, whose processors Linux describes in the file `cpuinfo`."""
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    # In reverse, so that the values of the first processor replace those of the others.
    lines = (line.partition(":") for line in reversed(text.splitlines()))
    facts = {name.strip(): value.strip() for name, _, value in lines}
    flags = facts.get("flags", "").split()
    return Machine(
        platform=platform.platform(),
        processor=facts.get("model name") or platform.processor() or platform.machine(),
        cpu_flags=tuple(flag for flag in CPU_FLAGS if flag in flags),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=memory.total(),
        accelerators=tuple(map(_name, tf.config.list_physical_devices("GPU"))),
    )


def relevant_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that affect what TensorFlow, Keras, JAX and their libraries compute."""
    return {
        name: value
        for name, value in sorted(variables.items())
        if (name.startswith(_PREFIXES) or name in _NAMES)
        and not name.startswith(_TERRAFORM)
        and not any(part in name for part in _SECRET)
    }


def _name(device: Any) -> str:
    details = tf.config.experimental.get_device_details(device)
    return str(details.get("device_name", device.name))


def _ops_are_deterministic() -> bool:
    # The public API can enable this, but not read it.
    from tensorflow.python.framework import config

    return bool(config.is_op_determinism_enabled())
