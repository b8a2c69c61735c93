from keras_ae.comparison.records import Tuning
from keras_ae.comparison.trials import format_summary, read_trials
from keras_ae.tuning.search_space import SearchSpace
from tests.keras_ae.tuning.test_search_space import TINY, hyperparameters_of


def test_trials_are_listed_and_summarised():
    space = SearchSpace(TINY)
    own = hyperparameters_of(space).values
    other = {**own, "width_3": 8, "learning_rate": 1e-3}
    results = [{"trial_id": "04", "score": 25.5, **other}, {"trial_id": "00", "score": 25, **own}]
    trials = read_trials(space, results)
    assert [trial.trial for trial in trials] == [5, 1]
    assert [trial.taken for trial in trials] == [True, False]
    assert [trial.untuned for trial in trials] == [False, True]
    assert trials[0].parameters < trials[1].parameters == space.parameters
    tuning = Tuning(trials=3, epochs=2, parameters=0, preset="tiny", batch_size=32, failed=1)
    text = format_summary(tuning, trials)
    assert text.startswith("width 8, 1 + 2 blocks, learning rate 0.001, batch size 32 (")
    assert "the best of 3 trials of 2 epochs with 25.50 dB on val" in text
    assert text.endswith("; tiny without tuning has 25.00 dB; 1 trial failed")
    assert "; this is the preset tiny unchanged" in format_summary(tuning, trials[1:])
