"""What a caller of keras-ae may want to catch."""


class KerasAEError(Exception):
    """Root of every error that keras-ae raises on purpose; its text is meant for the user."""


class ConfigurationError(KerasAEError, ValueError):
    """An argument that names no preset, no valid budget, no usable option."""


class DataError(KerasAEError):
    """A data source that does not exist, cannot be read or holds too few good images."""


class StorageError(KerasAEError):
    """A place that cannot be written, or a disk that is full."""


class TrainingError(KerasAEError):
    """A stage that cannot go on; its last good checkpoint is kept."""
