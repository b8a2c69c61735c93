import pytest

from tests.supply_chain import loading
from tests.test_project import ROOT, SOURCES

PROGRAMS = {
    "keras_ae/codec/__main__.py",
    "keras_ae/saved_model/comparable.py",
    "keras_ae/scoring/models.py",
    "pipeline/components/serving_check/executor.py",
    "pipeline/training_data.py",
    "serving/server/models/servable.py",
}
"""Where a SavedModel is loaded: one of the run itself, the one in service, one that a server
serves, or one that a user names to write and open files of latents."""


def test_nothing_that_is_read_is_unpickled():
    found = {str(path.relative_to(ROOT)): loading.unsafe(path.read_text()) for path in SOURCES}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_places_that_load_a_program_are_known():
    found = {path for path in SOURCES if loading.programs(path.read_text())}
    assert {str(path.relative_to(ROOT)) for path in found} == PROGRAMS


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import jsonpickle.handlers",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "numpy.load(path, allow_pickle=trusted)",
        "keras.saving.load_model(path, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
        "torch.load(path)",
    ],
)
def test_each_way_to_run_what_is_read_is_found(source):
    assert len(loading.unsafe(f"x = 1\n{source}")) >= 1
    assert (
        loading.unsafe("np.load(path, allow_pickle=False); load_model(path, compile=False)") == []
    )
