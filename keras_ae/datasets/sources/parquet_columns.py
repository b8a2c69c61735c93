"""Which columns of a Parquet file are images and labels, also by the metadata of Hugging Face."""

import json
from typing import Any, Final, NamedTuple

from keras_ae.datasets.sources.names import escape_name
from keras_ae.datasets.sources.parts import list_names
from keras_ae.errors import DataError

EXPECTED: Final = (
    "expected a column of encoded images (PNG, JPEG and others): binary, or a struct of bytes and "
    "path as Hugging Face's datasets write it"
)
_LABEL: Final = "label"


class Columns(NamedTuple):
    """The columns that are read.

    Attributes:
        image: name of the column of images.
        is_struct: whether its bytes are in a field of a struct.
        label: name of the column of labels; None if there is none.
        label_names: names of the labels by number; empty if the column has the labels themselves.
    """

    image: str
    is_struct: bool
    label: str | None
    label_names: tuple[str, ...]

    @property
    def paths(self) -> list[str]:
        """What to read of a file, so that other columns are not."""
        image = f"{self.image}.bytes" if self.is_struct else self.image
        return [image] if self.label is None else [image, self.label]

    def label_of(self, value: Any) -> str | None:
        """The label of a row; None if it has none."""
        if value is None or (self.label_names and value not in range(len(self.label_names))):
            return None
        return escape_name(self.label_names[value] if self.label_names else str(value))


class NoImagesError(DataError):
    """A table has no column of images."""


def find_columns(path: str, schema: Any, column: str = "") -> Columns:
    """Finds the columns of images and labels.

    Args:
        path: of the file, for messages.
        schema: its pyarrow.Schema.
        column: name of the column of images; empty to find it.

    Raises:
        NoImagesError: if there is no column of images.
        DataError: if there is no such column, or if there are several.
    """
    features = _features(schema.metadata or {})
    fields = {field.name: field.type for field in schema}
    candidates = [n for n, kind in fields.items() if _holds_bytes(kind) and _is_image(features, n)]
    if column and column not in fields:
        raise DataError(f"{path} has no column {column!r}; it has {_listed(fields, fields)}")
    if column and not _holds_bytes(fields[column]):
        raise DataError(f"{path}: {EXPECTED}; got {column} ({fields[column]})")
    if not column and not candidates:
        raise NoImagesError(f"no images in {path}: {EXPECTED}; got {_listed(fields, fields)}")
    if not column and len(candidates) > 1:
        raise DataError(
            f"{path} has several columns that may be images: {', '.join(candidates)}; "
            f"{path}:{candidates[0]} chooses one"
        )
    image = column or candidates[0]
    label, names = _find_label(features, {n: kind for n, kind in fields.items() if n != image})
    return Columns(image, _is_struct(fields[image]), label, names)


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """The types of the columns as Hugging Face's datasets write them; empty without them."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _is_image(features: dict[str, Any], name: str) -> bool:
    """Whether a column that holds bytes may be one of images: sound is kept in the same way."""
    images = [n for n, feature in features.items() if _type_of(feature) == "Image"]
    return name in images if images else _type_of(features.get(name)) in ("", "Value")


def _type_of(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def _find_label(
    features: dict[str, Any], fields: dict[str, Any]
) -> tuple[str | None, tuple[str, ...]]:
    """The column of labels: the only one with names of classes, or the one named label."""
    import pyarrow.types as t

    named = [n for n in fields if _type_of(features.get(n)) == "ClassLabel"]
    label = named[0] if len(named) == 1 else _LABEL
    kind = fields.get(label)
    if kind is None:
        return None, ()
    # What pandas calls a categorical.
    kind = kind.value_type if t.is_dictionary(kind) else kind
    if not (t.is_integer(kind) or t.is_string(kind) or t.is_large_string(kind)):
        return None, ()
    feature = features.get(label)
    names = feature.get("names") if isinstance(feature, dict) else None
    is_named = t.is_integer(kind) and isinstance(names, list)
    return label, tuple(map(str, names)) if is_named and names else ()


def _holds_bytes(kind: Any) -> bool:
    return _is_binary(kind) or _is_struct(kind)


def _is_struct(kind: Any) -> bool:
    import pyarrow.types as t

    if not t.is_struct(kind):
        return False
    return any(
        kind.field(i).name == "bytes" and _is_binary(kind.field(i).type)
        for i in range(kind.num_fields)
    )


def _is_binary(kind: Any) -> bool:
    import pyarrow.types as t

    return bool(t.is_binary(kind) or t.is_large_binary(kind))


def _listed(names: Any, fields: dict[str, Any]) -> str:
    return list_names([f"{escape_name(name)} ({fields[name]})" for name in names]) or "no column"
