"""Arrays and tables of images: good ones, and ones that are refused."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.corpus.pictures import encoded, picture


def arrays() -> dict[str, bytes]:
    """Files of NumPy by name."""
    images = np.arange(3 * 6 * 5 * 3, dtype=np.uint8).reshape(3, 6, 5, 3)
    objects = np.empty(2, object)
    objects[:] = [images, "text"]
    single = {
        "uint8": images,
        "grey": images[..., 0],
        "uint16": images.astype(">u2"),
        "floats": (images / 255).astype(np.float32),
        "fortran": np.asarray(images[..., 0], order="F"),
        "empty": images[:0],
        "objects": objects,
        "structured": np.zeros(3, [("a", np.uint8), ("b", "f4")]),
    }
    files = {f"{name}.npy": _saved(np.save, array) for name, array in single.items()}
    splits = {"x_train": images, "y_train": np.arange(3), "x_test": images[:2]}
    files["splits.npz"] = _saved(np.savez, **splits)
    files["compressed.npz"] = _saved(np.savez_compressed, **splits)
    files["several.npz"] = _saved(np.savez, a=images, b=images)
    files["truncated.npy"] = files["uint8.npy"][:-9]
    return files


def tables() -> dict[str, bytes]:
    """Parquet files by name."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    png = encoded(picture(102), "PNG")
    structs = pa.array([{"bytes": png, "path": "a.png"}, {"bytes": None, "path": "b"}, None], kind)
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
    }
    text = json.dumps({"info": {"features": features}})
    table = pa.table({"image": structs, "label": [0, 1, 5]})
    named = table.replace_schema_metadata({"huggingface": text})
    files = {
        "plain": _written(table),
        "named": _written(named),
        "other-metadata": _written(table.replace_schema_metadata({"huggingface": "[1"})),
        "row-groups": _written(named, row_group_size=1),
        "binary": _written(pa.table({"picture": [png, b"text"]})),
        "several": _written(pa.table({"a": structs, "b": structs})),
        "no-images": _written(pa.table({"url": ["a", "b"]})),
        "empty": _written(named[:0]),
        "no-columns": _written(pa.table({})),
    }
    files["truncated"] = files["named"][:-9]
    return files


def _saved(save: Callable[..., None], *arguments: Any, **named: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arguments, **named)
    return buffer.getvalue()


def _written(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="none", **options)
    return buffer.getvalue()
