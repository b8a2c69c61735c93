"""Lazy imports of public names, and imports of large libraries without optional packages."""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from keras_ae.errors import MissingExtraError

OPTIONAL_PACKAGES = ("IPython", "jax", "matplotlib", "sklearn")
"""Packages that TensorFlow and Keras import where they are installed, for converters, wrappers and
plots that this project does not use. They take a quarter of the import time and 190 MB."""


@contextmanager
def hide_packages(*names: str) -> Iterator[None]:
    """Makes packages appear as not installed to the code that is imported within the block.

    They can be imported again afterwards, and packages that are already imported stay available.
    Do not hide the backend that Keras computes with. Garbage collection is off in the block:
    imports create hardly any garbage, and looking for it takes a fifth of their time.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    gc_was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
        if gc_was_enabled:
            gc.enable()


BACKENDS: Final = "jax, tensorflow or torch, and set KERAS_BACKEND to the one that is installed"
"""The extras that bring Keras, as a message names them."""


@contextmanager
def from_extra(extra: str, what: str) -> Iterator[None]:
    """Raises MissingExtraError if a package that is imported within the block is missing.

    Its message says that `what` needs the package, and that `extra` of keras-ae brings it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("keras_ae", "serving"):
            raise
        raise MissingExtraError(
            f"{what} needs {error.name}, which is not installed: install keras-ae with its extra "
            f"{extra}"
        ) from error


def lazy_getattr(
    package: str, modules: Mapping[str, str], extra: str = BACKENDS
) -> Callable[[str], Any]:
    """Creates the `__getattr__` of a package that imports its public names on first use.

    This keeps `import keras_ae` fast. Imports inside the project name the module that defines a
    name, not the package: the code fingerprints of the pipeline follow import statements, and would
    miss a change in a module that is only imported through a package.

    Args:
        package: the `__name__` of the package.
        modules: the module that defines each public name; a leading dot means below the package.
        extra: what the use of a name needs; see `from_extra`.
    """

    def import_name(name: str) -> Any:
        if name in modules:
            with from_extra(extra, f"{package}.{name}"):
                return getattr(import_module(modules[name], package), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return import_name
