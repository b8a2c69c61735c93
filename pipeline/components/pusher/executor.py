"""Executor of Pusher: publishes a version in one step, so that servers only see complete ones."""

import errno
import fcntl
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tfx import types
from tfx.components.pusher import executor
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.utils import proto_utils

from keras_ae import durable, storage
from keras_ae.errors import StorageError
from keras_ae.storage import PathOrUri
from pipeline.runtime import artifacts, console, versions
from pipeline.runtime.artifacts import PROVENANCE, model_digest
from pipeline.runtime.versions import COMPARED, DATA, intact, newest_version

UNCHANGED, ARRIVED = "unchanged_version", "arrived_version"
"""Properties of a PushedModel: the version that is this model already, or that was not compared."""
IN_SERVICE = "in_service"
"""Key in `custom_config` of the model in service when the run began; empty if there was none."""
INCOMING = ".incoming-"


class Executor(executor.Executor):
    """TFX's Pusher with atomic publication, versions that never collide, and no duplicates.

    It replaces nothing but the version that was in service when the run began, with which the
    Evaluator has compared the model.
    """

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Publishes a blessed model, unless the newest version is this model or an unknown one."""
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        base = destination.filesystem.base_directory
        blessing = artifact_utils.get_single_instance(input_dict["model_blessing"])
        in_service = json.loads(exec_properties["custom_config"] or "{}").get(IN_SERVICE, "")
        with _locked(base), artifacts.fetched(self.GetModelPath(input_dict)) as model:
            remove_abandoned(base)
            newest, digest = newest_version(base), model_digest(model)
            if newest is not None and versions.digest(newest) == digest:
                if intact(newest):
                    self._MarkNotPushed(pushed)
                    pushed.set_string_custom_property(UNCHANGED, str(newest))
                    return
                console.say(f"    {newest} is damaged: the model is pushed again")
            elif newest is not None and not _is_compared(newest, in_service, blessing):
                self._MarkNotPushed(pushed)
                pushed.set_string_custom_property(ARRIVED, str(newest))
                logging.warning("not pushed: %s is in service, not %r", newest, in_service)
                return
            facts = {
                "digest": digest,
                "artifact": artifact_utils.get_single_uri(input_dict["model"]),
                "data": json.loads(blessing.get_string_custom_property(DATA) or "{}"),
            }
            version = publish(model, base, facts)
        name = storage.name(version)
        self._MarkPushed(pushed, pushed_destination=str(version), pushed_version=name)


def _is_compared(newest: PathOrUri, in_service: str, blessing: types.Artifact) -> bool:
    """Whether the newest version is the model that was in service when the run began.

    Args:
        newest: the newest version.
        in_service: path or URI of that model, a version or a Model artifact; may be empty.
        blessing: the Evaluator's, with the digest of that model if it was compared.
    """
    if compared := blessing.get_string_custom_property(COMPARED):
        return versions.digest(newest) == compared
    if not in_service or storage.join(newest) == storage.join(in_service):
        return bool(in_service)
    return versions.digest(newest) == versions.digest(in_service)


@contextmanager
def _locked(base: PathOrUri) -> Iterator[None]:
    """Lets one process at a time look at the newest version and add another, where that is local.

    Raises:
        StorageError: if the folder cannot be created.
    """
    if storage.is_uri(base):
        yield
        return
    try:
        Path(base).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot push to {base}: {_reason(error)}") from error
    with _open_folder(Path(base)) as descriptor:
        # Not every filesystem has locks.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def publish(model: Path, base: PathOrUri, facts: dict[str, Any]) -> PathOrUri:
    """Copies a SavedModel to a new version folder, which appears whole or not at all.

    Its files are on the disk before it gets its name, so that this holds for a power failure, too.

    At a remote URI, where folders cannot be renamed, `saved_model.pb` is written last: until then a
    server finds no model in the folder, and looks again later. Two pushes to one URI within a
    second get the same version.

    Args:
        model: folder of the SavedModel.
        base: path or URI of the folder of the versions; created if it is missing. What has another
            name than an integer is ignored.
        facts: what is added to `assets.extra/keras_ae.json` of the version.

    Returns:
        The path or URI of the version's folder. Its name is the time in seconds, or one more than
        the newest version.

    Raises:
        StorageError: if it cannot be written; partial files are removed.
    """
    if storage.is_uri(base):
        return _upload(model, str(base), facts)
    base = Path(base)
    incoming = base / f"{INCOMING}{uuid.uuid4().hex}"
    try:
        incoming.mkdir(parents=True)
        with _open_folder(incoming) as descriptor:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            shutil.copytree(model, incoming, dirs_exist_ok=True)
            _write_provenance(incoming, facts)
            durable.sync(incoming)
            return _rename(incoming, base)
    except OSError as error:
        raise StorageError(f"cannot push to {base}: {_reason(error)}") from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def remove_abandoned(base: PathOrUri) -> None:
    """Removes partial versions of pushes that were killed, from a folder on this machine.

    Several roots may push to one folder, so that what another process is writing is not removed.
    """
    if storage.is_uri(base):
        return
    for incoming in Path(base).glob(f"{INCOMING}*"):
        # A locked folder is in use. On a filesystem without locks every folder may be.
        with suppress(OSError), _open_folder(incoming) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(incoming)


@contextmanager
def _open_folder(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    """The message of an error, in short if the disk is full: it lists each file of a folder."""
    full = os.strerror(errno.ENOSPC)
    return f"{full}; what earlier runs made is kept" if full in str(error) else str(error)


def _rename(incoming: Path, base: Path) -> Path:
    while True:
        number = _next_number(base)
        try:
            # Renaming a folder to one with files fails, so that two pushes are never mixed.
            return durable.rename(incoming, base / str(number))
        except OSError:
            if not incoming.exists() or not (base / str(number)).exists():
                raise


def _upload(model: Path, base: str, facts: dict[str, Any]) -> str:
    version = storage.join(base, _next_number(base))
    with TemporaryDirectory() as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)
        _write_provenance(Path(folder), facts)
        try:
            artifacts.copy_folder(folder, version)
        except StorageError as error:
            with suppress(StorageError):
                storage.remove(version)
            raise StorageError(f"cannot push to {base}: {error}") from error
    return version


def _write_provenance(version: Path, facts: dict[str, Any]) -> None:
    """Adds facts to those that the export has written there."""
    (version / PROVENANCE).parent.mkdir(exist_ok=True)
    everything = {**versions.provenance(version), **facts}
    (version / PROVENANCE).write_text(json.dumps(everything, indent=1))


def _next_number(base: PathOrUri) -> int:
    return max([int(time.time()), *(number + 1 for number in versions.numbers(base))])
