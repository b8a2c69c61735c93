"""What Beam's workers do in tests. They import this module, hence it imports next to nothing."""

import os

from keras_ae.errors import DataError


def refuse(number: int) -> int:
    """Raises what a worker knows: that it is another process, and where it found the project."""
    if number == 1:
        import tensorflow_data_validation  # noqa: F401

        import pipeline

        raise DataError(f"{os.getpid()} {pipeline.__path__[0]}")
    return number


def die(number: int) -> int:
    if number == 1:
        os._exit(9)
    return number
