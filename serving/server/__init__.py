"""A replacement of `tensorflow_model_server` for machines without it and without Docker."""
