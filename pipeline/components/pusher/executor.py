"""Pusher that publishes a version in one step, so that a polling server never sees half of one."""

import errno
import fcntl
import json
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
from pipeline.runtime import artifacts, console
from pipeline.runtime.artifacts import PROVENANCE, model_digest

UNCHANGED = "unchanged_version"
INCOMING = ".incoming-"


class Executor(executor.Executor):
    """TFX's Pusher with atomic publication, versions that never collide, and no duplicates."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Publishes a blessed model, unless the newest version is that model already."""
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        base = destination.filesystem.base_directory
        facts = {
            "lineage": json.loads(exec_properties["custom_config"] or "{}").get("lineage", ""),
            "artifact": artifact_utils.get_single_uri(input_dict["model"]),
        }
        clear_abandoned(base)
        newest = newest_version(base)
        with artifacts.fetched(self.GetModelPath(input_dict)) as model:
            digest = model_digest(model)
            if newest is not None and provenance(newest).get("digest") == digest:
                if intact(newest):
                    self._MarkNotPushed(pushed)
                    pushed.set_string_custom_property(UNCHANGED, str(newest))
                    return
                console.say(f"    {newest} is damaged: the model is pushed anew")
            version = publish(model, base, {"digest": digest, **facts})
        name = storage.name(version)
        self._MarkPushed(pushed, pushed_destination=str(version), pushed_version=name)


def publish(model: Path, base: PathOrUri, facts: dict[str, Any]) -> PathOrUri:
    """Copies a SavedModel to a new version folder, which appears whole or not at all.

    It is on the disk before it has its name, so that this holds for a power failure as well.

    At a remote URI, where nothing can be renamed, `saved_model.pb` comes last: a server that looks
    there meanwhile finds no model in the folder and asks again later. Two pushes to one such place
    within a second are not told apart.

    Args:
        model: folder of the SavedModel.
        base: folder of the versions, or its URI; made if missing. Names that are no integers are
            left alone.
        facts: written to `assets.extra/keras_ae.json` of the version.

    Returns:
        The version's folder, or its URI; its name is the time in seconds, or one more than the
        newest version.

    Raises:
        StorageError: if it cannot be written; nothing is left behind.
    """
    if storage.is_uri(base):
        return _upload(model, str(base), facts)
    base = Path(base)
    incoming = base / f"{INCOMING}{uuid.uuid4().hex}"
    try:
        incoming.mkdir(parents=True)
        with _opened(incoming) as descriptor:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            shutil.copytree(model, incoming, dirs_exist_ok=True)
            _note(incoming, facts)
            durable.sync(incoming)
            return _rename(incoming, base)
    except OSError as error:
        raise StorageError(f"cannot push to {base}: {_reason(error)}") from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def clear_abandoned(base: PathOrUri) -> None:
    """Removes what pushes that were killed left in a folder of this machine.

    Several roots may push to one folder: what another process is writing is left alone.
    """
    if storage.is_uri(base):
        return
    for incoming in Path(base).glob(f"{INCOMING}*"):
        # What is locked, and all on a filesystem without locks, may be in use.
        with suppress(OSError), _opened(incoming) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(incoming)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    """What went wrong, without the places of each file of a folder that cannot be copied."""
    full = os.strerror(errno.ENOSPC)
    return f"{full}; what earlier runs made is kept" if full in str(error) else str(error)


def _rename(incoming: Path, base: Path) -> Path:
    while True:
        number = _next(base)
        try:
            # Renaming a folder onto another that holds files fails: two pushes never mix.
            return durable.rename(incoming, base / str(number))
        except OSError:
            if not incoming.exists() or not (base / str(number)).exists():
                raise


def _upload(model: Path, base: str, facts: dict[str, Any]) -> str:
    version = storage.join(base, _next(base))
    with TemporaryDirectory() as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)
        _note(Path(folder), facts)
        try:
            artifacts.copy_folder(folder, version)
        except StorageError as error:
            with suppress(StorageError):
                storage.remove(version)
            raise StorageError(f"cannot push to {base}: {error}") from error
    return version


def _note(version: Path, facts: dict[str, Any]) -> None:
    (version / PROVENANCE).parent.mkdir(exist_ok=True)
    (version / PROVENANCE).write_text(json.dumps(facts, indent=1))


def _next(base: PathOrUri) -> int:
    return max([int(time.time()), *(number + 1 for number in _numbers(base))])


def newest_version(base: PathOrUri, lineage: str | None = None) -> PathOrUri | None:
    """The version folder with the largest number, of one lineage if that is given.

    A version at a remote URI is one when its `saved_model.pb` is there.

    Args:
        base: folder of the versions, or its URI.
        lineage: that `publish` noted of the version.
    """
    for number in sorted(_numbers(base), reverse=True):
        remote = storage.is_uri(base)
        version: PathOrUri = storage.join(base, number) if remote else Path(base) / str(number)
        if remote and not storage.exists(storage.join(version, artifacts.LAST)):
            continue
        if lineage is None or provenance(version).get("lineage") == lineage:
            return version
    return None


def _numbers(base: PathOrUri) -> list[int]:
    numbers = [int(name) for name in storage.list_names(base) if name.isdigit()]
    # A remote store would be asked for each of them.
    return [n for n in numbers if storage.is_uri(base) or Path(base, str(n)).is_dir()]


def provenance(version: PathOrUri) -> dict[str, Any]:
    """What `publish` noted of a version; empty for one that it did not write."""
    note = storage.join(version, PROVENANCE)
    try:
        return dict(json.loads(storage.read_file(note))) if storage.exists(note) else {}
    except (OSError, ValueError):
        return {}


def intact(version: PathOrUri) -> bool:
    """Whether the files of a version are those that `publish` noted the digest of, if it did."""
    noted = provenance(version).get("digest")
    try:
        with artifacts.fetched(version) as folder:
            return noted is None or model_digest(folder) == noted
    except OSError:
        return False
