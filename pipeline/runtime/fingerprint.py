"""Fingerprints of the code of a step, for its cache key: TFX itself hashes `module_file`s only."""

import ast
from functools import cache
from importlib import metadata
from pathlib import Path

from keras_ae.storage import sha256_of_parts

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("keras_ae", "pipeline")
BACKENDS = "keras_ae.training.backends."
LIBRARIES = (
    "apache-beam",
    "keras",
    "keras-tuner",
    "matplotlib",
    "numpy",
    "pillow",
    "scipy",
    "tensorflow",
    "tensorflow-model-analysis",
    "tensorflow-transform",
    "tfx",
)


def source_fingerprint(module: str) -> str:
    """Hashes a module such as "pipeline.trainer", all project modules that it imports, and the
    versions of libraries."""
    code = _closure(module)
    # Templates and other data files are in the folder of the code that reads them.
    data = {p for path in code for p in path.parent.iterdir() if _is_data(p)}
    parts = [
        path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes()
        for path in sorted(code | data)
    ]
    parts += [f"{library}={metadata.version(library)}\0".encode() for library in LIBRARIES]
    return sha256_of_parts(parts)[:16]


def _is_data(path: Path) -> bool:
    # Code is followed by its imports. The other files do not affect what a step computes.
    excluded = path.suffix in (".py", ".pyi") or path.name in ("Dockerfile", "py.typed")
    return path.is_file() and not excluded


def _closure(module: str) -> set[Path]:
    """The files of a module and of all modules of the project that it imports."""
    files: set[Path] = set()
    modules = [module]
    while modules:
        base = ROOT.joinpath(*modules.pop().split("."))
        new = {file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()}
        for file in new - files:
            modules += _imports(file.read_text())
        files |= new
    return files


@cache
def _imports(source: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.JoinedStr) and BACKENDS in ast.unparse(node):
            # A formatted string that names a module for an import at run time.
            folder = ROOT.joinpath(*BACKENDS.split("."))
            names += [f"{BACKENDS}{path.stem}" for path in folder.glob("*.py")]
    return [name for name in names if name.split(".")[0] in PACKAGES]
