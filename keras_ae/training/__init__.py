"""Training on a ladder of epoch budgets."""

from keras_ae.imports import lazily

__all__ = ["Ladder"]
__getattr__ = lazily(__name__, {"Ladder": "keras_ae.training.ladder"})
