"""Large libraries, imported without what they would only use if it were asked for."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
