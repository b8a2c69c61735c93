"""What in a source could run the code of a file that it reads, beside what the linter knows."""

import ast
from collections.abc import Iterator

MODULES = {"cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickle", "shelve"}
CODE = {"tf.saved_model.load", "tft.TFTransformOutput"}
"""Loads a SavedModel, which is a program."""
_NEVER = ("enable_unsafe_deserialization", "torch.load", "read_pickle", "layers.Lambda")


def unsafe(source: str) -> list[str]:
    """The lines of a source that unpickle, may unpickle, or lift a guard against it."""
    return [f"line {node.lineno}: {why}" for node, why in _findings(ast.parse(source))]


def programs(source: str) -> set[str]:
    """Which of `CODE` a source calls."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return {ast.unparse(call.func) for call in calls} & CODE


def _findings(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            for name in names:
                if name.split(".")[0] in MODULES:
                    yield node, f"imports {name}"
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            told = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if name.endswith(_NEVER):
                yield node, f"calls {name}"
            if name in ("np.load", "numpy.load") and told.get("allow_pickle") != "False":
                yield node, "numpy.load without allow_pickle=False"
            if told.get("safe_mode", "True") != "True":
                yield node, "safe_mode is not True"
            if told.get("allow_pickle", "False") != "False":
                yield node, "allow_pickle is not False"
