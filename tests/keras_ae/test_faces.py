"""What packages hand on to users, and that the project itself does without."""

import ast
import functools
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from keras_ae.models.autoencoder import ConvAutoencoder
from tests.tiny import TINY

ROOT = Path(__file__).parents[2]
FACES = (
    "keras_ae",
    "keras_ae.datasets.sources",
    "keras_ae.models",
    "keras_ae.training",
    "pipeline",
    "serving.client",
)
OURS = ("keras_ae", "pipeline", "serving")
SOURCES = sorted(path for folder in OURS for path in (ROOT / folder).rglob("*.py"))


def run(program: str, *arguments: object) -> str:
    """What a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env={"KERAS_BACKEND": "jax", "PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", FACES)
def test_every_public_name_is_there_and_no_other(name):
    face = importlib.import_module(name)
    for public in getattr(face, "__all__", ()):
        assert getattr(face, public) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = face.nothing


@pytest.mark.parametrize("name", ["keras_ae", "serving.client"])
def test_the_types_of_a_face_are_those_of_its_public_names(name):
    face = importlib.import_module(name)
    typed = set()
    for node in ast.parse(Path(face.__file__).with_suffix(".pyi").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                typed.add(alias.name)
                defined = importlib.import_module("." * node.level + node.module, name)
                assert getattr(face, alias.name) is getattr(defined, alias.name)
    assert typed == set(face.__all__) - {"__version__"}


def test_the_library_is_imported_without_anything_heavy():
    heavy = "{'keras', 'numpy', 'scipy', 'matplotlib', 'jax', 'tensorflow', 'PIL'}"
    assert run(f"import sys, keras_ae; print({heavy} & set(sys.modules))") == "set()"


def test_the_client_is_imported_beside_a_keras_that_the_library_cannot_use():
    """Of another version, say, in an environment of the client alone."""
    program = (
        "import sys, types\n"
        "sys.modules['keras'] = types.ModuleType('keras')\n"
        "from serving.client import ReconstructionClient\n"
        "print(ReconstructionClient.__name__)"
    )
    assert run(program) == "ReconstructionClient"


def test_a_saved_model_is_loaded_where_keras_or_the_models_are_imported_first(tmp_path):
    path = tmp_path / "model.keras"
    ConvAutoencoder(TINY).save(path)
    load = "import sys; print(type(keras.saving.load_model(sys.argv[1])).__name__)"
    for imports in ("import keras; import keras_ae", "import keras_ae.models; import keras"):
        assert run(f"{imports}\n{load}", path) == "ConvAutoencoder"


@functools.cache
def names_in(path: Path) -> set[str]:
    """What a module defines at its top level, without what it imports."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        waiting.extend(ast.iter_child_nodes(node))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_import_names_the_module_that_defines_the_name(path):
    """The fingerprints of the pipeline's code follow imports, and so would miss an edit."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
        named = (*package, *(node.module or "").split("."))
        if named[0] not in OURS:
            continue
        place = ROOT.joinpath(*named)
        for alias in node.names:
            if (place / alias.name).is_dir() or (place / f"{alias.name}.py").is_file():
                continue
            module = place.with_suffix(".py")
            assert module.is_file(), f"{place} hands {alias.name} on"
            assert alias.name in names_in(module), f"{module} does not define {alias.name}"
