"""Imports that wait until they are needed, and large libraries without what they only try."""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from keras_ae.errors import MissingExtraError

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


BACKENDS: Final = "jax, tensorflow or torch, and set KERAS_BACKEND to its name"
"""The extras that bring Keras, as a message names them."""


@contextmanager
def from_extra(extra: str, what: str) -> Iterator[None]:
    """Says which extra to install if a package that is imported within the block is missing.

    Args:
        extra: the extra of keras-ae that brings it, as the message names it.
        what: what needs the package.

    Raises:
        MissingExtraError: if it is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{what} needs {error.name}, which is not installed: install keras-ae with its extra "
            f"{extra}"
        ) from error


def lazily(
    package: str, defined_in: Mapping[str, str], extra: str = BACKENDS
) -> Callable[[str], Any]:
    """Makes the `__getattr__` of a package that imports a public name when it is asked for.

    `import keras_ae` so stays light. Inside the project every import names the module that defines
    a name: the fingerprints of the pipeline's code follow import statements, and would miss an edit
    behind a name that is handed on.

    Args:
        package: its `__name__`.
        defined_in: the module that defines each public name; with a dot first, below the package.
        extra: the extra of keras-ae that the names need, as `from_extra` takes it.

    Raises:
        MissingExtraError: when a name is asked for, if that extra is not installed.
    """

    def get(name: str) -> Any:
        if name in defined_in:
            with from_extra(extra, f"{package}.{name}"):
                return getattr(import_module(defined_in[name], package), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get
