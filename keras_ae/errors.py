"""The exceptions of keras-ae."""


class KerasAEError(Exception):
    """Base class of all errors that keras-ae raises; the message is written for the user."""


class ConfigurationError(KerasAEError, ValueError):
    """An invalid argument or option."""


class MissingExtraError(ConfigurationError, ImportError):
    """A package that is not installed; its text says which extra of keras-ae brings it."""


class DataError(KerasAEError):
    """A data source does not exist, cannot be read, or has too few good images."""


class StorageError(KerasAEError):
    """A file or folder cannot be written or read, or the disk is full."""


class ReadError(DataError, StorageError):
    """A file or folder, local or in a remote store, cannot be read."""


class BusyError(KerasAEError):
    """Another run is using the root; the message says which."""


class DamagedError(StorageError):
    """A file is damaged: its content is not what was written."""


class TrainingError(KerasAEError):
    """Training cannot continue; the last good checkpoint is kept."""


class StoppedError(TrainingError):
    """Training was stopped on request; the checkpoint contains its current state."""


class ServingError(KerasAEError):
    """A request to a server failed; the subclass says why."""


class InvalidRequestError(ServingError, ValueError):
    """The server or the client rejected the request, which must be changed."""


class NotFoundError(ServingError):
    """The server does not have this model or version."""


class UnavailableError(ServingError):
    """After all retries there is no server at the address, or it accepts no requests."""


class DeadlineError(ServingError, TimeoutError):
    """There was no response within the timeout."""


class AccessError(ServingError):
    """A token or certificate is missing or was rejected."""


class LimitError(ServingError):
    """A message exceeds a size limit, or a quota is used up."""


class ServerError(ServingError):
    """The server failed or does not implement the request; the message contains its error."""


def one_line(error: BaseException) -> str:
    """The message of an error on one line of at most 200 characters, or the name of its class."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its class without one."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
