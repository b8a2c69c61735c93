"""Pusher that publishes a version in one step, so that a polling server never sees half of one."""

import hashlib
import json
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.pusher import executor
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.utils import proto_utils

from keras_ae.errors import StorageError

PROVENANCE = Path("assets.extra") / "keras_ae.json"
UNCHANGED = "unchanged_version"


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
        base = Path(destination.filesystem.base_directory)
        model = Path(self.GetModelPath(input_dict))
        lineage = json.loads(exec_properties["custom_config"] or "{}").get("lineage", "")
        digest = model_digest(model)
        newest = newest_version(base)
        if newest is not None and provenance(newest).get("digest") == digest:
            self._MarkNotPushed(pushed)
            pushed.set_string_custom_property(UNCHANGED, str(newest))
            return
        artifact = artifact_utils.get_single_instance(input_dict["model"]).uri
        version = publish(model, base, {"digest": digest, "lineage": lineage, "artifact": artifact})
        self._MarkPushed(pushed, pushed_destination=str(version), pushed_version=version.name)


def publish(model: Path, base: Path, facts: dict[str, Any]) -> Path:
    """Copies a SavedModel to a new version folder, which appears whole or not at all.

    Args:
        model: folder of the SavedModel.
        base: folder of the versions; made if missing. Names that are no integers are left alone.
        facts: written to `assets.extra/keras_ae.json` of the version.

    Returns:
        The version's folder; its name is the time in seconds, or one more than the newest version.

    Raises:
        StorageError: if it cannot be written; nothing is left behind.
    """
    incoming = base / f".incoming-{uuid.uuid4().hex}"
    try:
        base.mkdir(parents=True, exist_ok=True)
        shutil.copytree(model, incoming)
        (incoming / PROVENANCE).parent.mkdir(exist_ok=True)
        (incoming / PROVENANCE).write_text(json.dumps(facts, indent=1))
        return _rename(incoming, base)
    except OSError as error:
        raise StorageError(f"cannot push to {base}: {error}") from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _rename(incoming: Path, base: Path) -> Path:
    while True:
        newest = newest_version(base)
        number = max(int(time.time()), int(newest.name) + 1 if newest else 0)
        try:
            # Renaming a folder onto another that holds files fails: two pushes never mix.
            return incoming.rename(base / str(number))
        except OSError:
            if not (base / str(number)).exists():
                raise


def newest_version(base: Path, lineage: str | None = None) -> Path | None:
    """The version folder with the largest number, of one lineage if that is given."""
    if not base.is_dir():
        return None
    versions = [path for path in base.iterdir() if path.name.isdigit() and path.is_dir()]
    if lineage is not None:
        versions = [path for path in versions if provenance(path).get("lineage") == lineage]
    return max(versions, key=lambda path: int(path.name), default=None)


def provenance(version: Path) -> dict[str, Any]:
    """What `publish` noted of a version; empty for one that it did not write."""
    try:
        return dict(json.loads((version / PROVENANCE).read_text()))
    except (OSError, ValueError):
        return {}


def model_digest(model: Path) -> str:
    """SHA-256 over the names and contents of a SavedModel's files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        digest.update(path.relative_to(model).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
