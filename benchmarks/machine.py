"""The machine and the package versions that results depend on."""

import importlib.metadata
import platform
from importlib.util import find_spec
from pathlib import Path

import keras


def machine() -> str:
    """One line: cores, processor, accelerators, backend and package versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("keras", "tensorflow", "jax", "torch")
        if find_spec(name)
    ]
    return (
        f"{len(names)} cores of {names[0] if names else platform.processor()}, {accelerators()}, "
        f"{keras.backend.backend()} backend, {', '.join(versions)}"
    )


def accelerators() -> str:
    """The GPUs that the backend sees."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        names = [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    elif backend == "torch":
        import torch

        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    else:
        names = keras.distribution.list_devices("gpu")
    return f"{len(names)} x {names[0]}" if names else "no GPU"
