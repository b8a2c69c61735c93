"""Training on a ladder of epoch budgets."""

from keras_ae.imports import lazy_getattr

__all__ = ["Ladder"]
__getattr__ = lazy_getattr(__name__, {"Ladder": "keras_ae.training.ladder"})
