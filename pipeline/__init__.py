"""The TFX pipeline around keras_ae."""

from keras_ae.imports import lazy_getattr

# TFX's entry point for Kubeflow imports an artifact type by its name, which has room for one dot.
__getattr__ = lazy_getattr(
    __name__,
    {
        "Comparison": "pipeline.components.budget_comparison.component",
        "ReportArtifact": "pipeline.components.report.component",
    },
)
