"""A model of the presets' kind that is compiled in a moment."""

from keras_ae.presets import Preset

TINY = Preset("tiny", "linear-residual", (8,), (1, 1), clipnorm=0.03)
