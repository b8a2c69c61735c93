"""The TFX pipeline around keras_ae."""

from importlib import import_module
from typing import Any

_ARTIFACTS = {
    "Comparison": "pipeline.components.budget_comparison.component",
    "ReportArtifact": "pipeline.components.report.component",
}


def __getattr__(name: str) -> Any:
    """The artifact types of this pipeline.

    TFX's entry point for Kubeflow imports a type by its name, which has room for one dot.
    """
    if name in _ARTIFACTS:
        return getattr(import_module(_ARTIFACTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
