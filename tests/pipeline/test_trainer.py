import dataclasses

from keras_ae import presets
from pipeline import trainer

CONFIG = trainer.StageConfig(
    start=0,
    stop=10,
    preset=presets.DEFAULT,
    channels=3,
    stride=8,
    latent_channels=8,
    seed=0,
    batch_size=32,
    checkpoints="somewhere",
    fingerprint="0123",
)
VALUES = {"depth": 2, "width_2": 24, "learning_rate": 2e-3, "batch_size": 16}


def test_a_stage_takes_its_preset_from_the_tuner_where_there_was_one():
    assert trainer._preset(CONFIG, None) == (presets.get(presets.DEFAULT), 32)
    preset, batch_size = trainer._preset(CONFIG, {"space": [], "values": VALUES})
    assert (preset.widths, sum(preset.blocks), preset.learning_rate) == ((24,), 2, 2e-3)
    assert preset.name == f"{presets.DEFAULT} tuned"
    assert batch_size == 16


def test_a_checkpoint_is_of_one_set_of_values(tmp_path):
    (tmp_path / "data").write_text("images")
    files = [str(tmp_path / "data")]

    def key(values):
        found = trainer._preset(CONFIG, values and {"values": values})
        return trainer._key(CONFIG, *found, None, files)

    variants = [None, VALUES, *({**VALUES, name: value * 2} for name, value in VALUES.items() if
                name != "depth"), {**VALUES, "depth": 4, "width_4": 24}]  # fmt: skip
    assert len({key(values) for values in variants}) == len(variants)
    assert key(VALUES) == key(dict(VALUES))
    elsewhere = dataclasses.replace(CONFIG, checkpoints="elsewhere")
    assert trainer._key(elsewhere, *trainer._preset(CONFIG, None), None, files) == key(None)
