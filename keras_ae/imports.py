"""Imports that wait until they are needed, and large libraries without what they only try."""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

OPTIONAL = ("IPython", "jax", "matplotlib", "sklearn")
"""What TensorFlow and Keras try to import, for converters, wrappers and plots that nobody here
calls: a quarter of the time that their own import takes, and 190 MB."""


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Lets libraries that are imported within the block find some packages missing.

    Whoever imports these afterwards gets them; what is in the process already stays. Keras must not
    compute with one of them. Meanwhile no garbage is collected, for an import leaves next to none,
    and to look for it takes a fifth of its time.

    Args:
        names: top-level packages.
    """
    absent = [name for name in names if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)
        if collects:
            gc.enable()


def lazily(package: str, defined_in: Mapping[str, str]) -> Callable[[str], Any]:
    """Makes the `__getattr__` of a package that imports a public name when it is asked for.

    `import keras_ae` so stays light. Inside the project every import names the module that defines
    a name: the fingerprints of the pipeline's code follow import statements, and would miss an edit
    behind a name that is handed on.

    Args:
        package: its `__name__`.
        defined_in: the module that defines each public name.
    """

    def get(name: str) -> Any:
        if name in defined_in:
            return getattr(import_module(defined_in[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get
