"""The latent of an image as a file: see keras_ae.codec.file and docs/codec.md."""
