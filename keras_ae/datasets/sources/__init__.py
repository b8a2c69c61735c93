"""Where images come from: folders, archives, TensorFlow datasets, the sample photographs."""

from keras_ae.imports import lazily

__all__ = ["Record", "Shard", "Source", "check", "open_source"]
__getattr__ = lazily(
    __name__,
    {
        "Record": "keras_ae.datasets.sources.base",
        "Shard": "keras_ae.datasets.sources.base",
        "Source": "keras_ae.datasets.sources.base",
        "check": "keras_ae.datasets.sources.open",
        "open_source": "keras_ae.datasets.sources.open",
    },
)
