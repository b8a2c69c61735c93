"""Reads the summary that a Trainer writes of its stage."""

from keras_ae import storage
from keras_ae.stages import StageSummary
from keras_ae.storage import PathOrUri
from pipeline.runtime.artifacts import SUMMARY


def read_summary(model: PathOrUri) -> StageSummary:
    """Reads the summary in the Model artifact of a stage, a folder or its URI."""
    return StageSummary.model_validate_json(storage.read_file(storage.join(model, SUMMARY)))
