"""The TFX pipeline around keras_ae."""
