"""What a caller of keras-ae may want to catch."""


class KerasAEError(Exception):
    """Root of every error that keras-ae raises on purpose; its text is meant for the user."""


class ConfigurationError(KerasAEError, ValueError):
    """An argument that names no preset, no valid budget, no usable option."""


class MissingExtraError(ConfigurationError, ImportError):
    """A package that is not installed; its text says which extra of keras-ae brings it."""


class DataError(KerasAEError):
    """A data source that does not exist, cannot be read or holds too few good images."""


class StorageError(KerasAEError):
    """A place that cannot be written, or a disk that is full."""


class ReadError(DataError, StorageError):
    """A place, on this machine or in a remote store, that cannot be read."""


class BusyError(KerasAEError):
    """A root that another run uses; its text says which."""


class DamagedError(StorageError):
    """A file whose content is not what was written."""


class TrainingError(KerasAEError):
    """A stage that cannot go on; its last good checkpoint is kept."""


class StoppedError(TrainingError):
    """A stage that was asked to stop; its checkpoint is of the batch that it stopped after."""


class ServingError(KerasAEError):
    """A request to a server that was not answered; its subclasses say why."""


class InvalidRequestError(ServingError, ValueError):
    """What the server, or the client before it, refuses to work on: the request must change."""


class NotFoundError(ServingError):
    """A model or a version that the server does not have."""


class UnavailableError(ServingError):
    """No server at that address, or one that takes no requests now, after all retries."""


class DeadlineError(ServingError, TimeoutError):
    """No answer within the timeout."""


class AccessError(ServingError):
    """A token or a certificate that is missing or refused."""


class LimitError(ServingError):
    """A message above a size limit, or a quota that is used up."""


class ServerError(ServingError):
    """The server failed, or does not know the request; its own words are in the message."""


def one_line(error: BaseException) -> str:
    """The message of an error on one line of at most 200 characters, or the name of its class."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or the name of its class if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
