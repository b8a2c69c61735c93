"""Checks, before anything runs, that a run can write to its folders and buckets."""

import os
from pathlib import Path
from tempfile import TemporaryFile

from keras_ae import storage
from keras_ae.errors import StorageError, first_line
from keras_ae.storage import PathOrUri

ANSWER_SECONDS = 10
"""Time that Google Cloud Storage has to answer whether a bucket can be used."""
PERMISSIONS = tuple(f"storage.objects.{what}" for what in ("create", "delete", "get", "list"))


def check_reachable(uri: PathOrUri) -> None:
    """Checks that a root can be written, without waiting for long.

    Raises:
        StorageError: in one line, for a folder that cannot be written, a scheme that TensorFlow has
            no filesystem for, a bucket that does not exist or may not be used, missing credentials
            and a host that does not answer.
    """
    if not storage.is_uri(uri):
        try:
            Path(uri).mkdir(parents=True, exist_ok=True)
            # A file without a name, so that a process that is killed leaves nothing behind.
            with TemporaryFile(dir=uri) as probe:
                probe.write(b"x")
        except OSError as error:
            raise StorageError(f"cannot write to {uri}: {error.strerror}") from error
    elif str(uri).startswith("gs://"):
        _check_bucket(str(uri))
    else:
        file = storage.join(uri, f".probe-{os.getpid()}")
        storage.make_folder(uri)
        storage.write_file(file, b"x")
        storage.remove(file)


def _check_bucket(uri: str) -> None:
    """Uses Google's client, because TensorFlow's filesystem would retry for minutes."""
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.cloud.storage import Client
    from requests.exceptions import RequestException

    name = uri.removeprefix("gs://").partition("/")[0]
    limits = {"timeout": ANSWER_SECONDS, "retry": None}
    try:
        # No project is needed for this, and without a name the client looks for one.
        bucket = Client(project="none").bucket(name)
        granted = bucket.test_iam_permissions(list(PERMISSIONS), **limits)
    except exceptions.NotFound as error:
        raise StorageError(f"cannot write to {uri}: there is no bucket {name}") from error
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        raise StorageError(
            f"cannot write to {uri}: these credentials may not use the bucket; grant them "
            "the role Storage Object Admin on it"
        ) from error
    except (exceptions.GoogleAPIError, RequestException, TransportError, ValueError) as error:
        raise StorageError(
            f"cannot write to {uri}: Google Cloud Storage does not answer: {first_line(error)}"
        ) from error
    except GoogleAuthError as error:
        raise StorageError(
            f"cannot write to {uri}: no valid credentials of Google Cloud; set "
            "GOOGLE_APPLICATION_CREDENTIALS or run gcloud auth application-default login"
        ) from error
    if missing := sorted(set(PERMISSIONS) - set(granted)):
        raise StorageError(f"cannot write to {uri}: not permitted are {', '.join(missing)}")
