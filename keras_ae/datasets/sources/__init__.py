"""Sources of images: folders, archives, TensorFlow datasets and the sample photographs."""

from keras_ae.imports import lazy_getattr

__all__ = ["Record", "Shard", "Source", "check", "open_source"]
__getattr__ = lazy_getattr(
    __name__,
    {
        "Record": "keras_ae.datasets.sources.base",
        "Shard": "keras_ae.datasets.sources.base",
        "Source": "keras_ae.datasets.sources.base",
        "check": "keras_ae.datasets.sources.open",
        "open_source": "keras_ae.datasets.sources.open",
    },
)
