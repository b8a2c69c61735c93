"""Types that annotations share."""

from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of the backend that Keras computes with, or an array that it takes as one: backends
have no type in common. Shapes and dtypes are in the docstrings."""
