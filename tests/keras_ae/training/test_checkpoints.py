import numpy as np
import pytest

from keras_ae.errors import DamagedError, StorageError
from keras_ae.training import checkpoints

ARRAYS = {"epoch": np.asarray(4), "model/0": np.arange(6, dtype=np.float32).reshape(2, 3)}


def epoch_of(path) -> int:
    return int(checkpoints.read(path)["epoch"])


@pytest.fixture
def state(tmp_path):
    checkpoints.write(tmp_path / "new" / "state.npz", ARRAYS)
    return tmp_path / "new" / "state.npz"


def test_a_written_state_can_be_read_also_by_numpy(state):
    with np.load(state) as file:
        for arrays in (checkpoints.read(state), dict(file)):
            assert arrays.keys() == ARRAYS.keys()
            for name, array in ARRAYS.items():
                np.testing.assert_array_equal(arrays[name], array, strict=True)
    assert [path.name for path in state.parent.iterdir()] == ["state.npz"]


def test_flipped_bits_and_missing_bytes_are_detected_at_any_position(state):
    content = state.read_bytes()
    for index in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[index] ^= 1 << index % 8
        for damaged in (flipped, content[:index]):
            state.write_bytes(damaged)
            with pytest.raises(DamagedError, match=r"state\.npz is damaged: .*; delete it, and"):
                checkpoints.read(state)
    state.write_bytes(content + b"\0")
    with pytest.raises(DamagedError):
        checkpoints.read(state)


def test_a_missing_state_is_not_reported_as_damaged(tmp_path):
    with pytest.raises(StorageError, match="No such file") as raised:
        checkpoints.read(tmp_path / "state.npz")
    assert not isinstance(raised.value, DamagedError)


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of epoch 7, and the previous one of epoch 4."""
    path = tmp_path / "stage.npz"
    for epoch in (1, 4, 7):
        checkpoints.write(path, {"epoch": np.asarray(epoch)}, keep_previous=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["stage.earlier.npz", "stage.npz"]
    return path


def test_the_last_checkpoint_is_read(checkpoint):
    lines = []
    assert checkpoints.read_checkpoint(checkpoint, lines.append) == {"epoch": 7}
    assert lines == []


def test_the_previous_checkpoint_replaces_a_damaged_one(checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    lines = []
    assert checkpoints.read_checkpoint(checkpoint, lines.append) == {"epoch": 4}
    assert lines == [
        f"the checkpoint {checkpoint} is damaged: resuming from the previous one, in epoch 5"
    ]
    # The damaged file must not become the previous one at the next write.
    checkpoints.write(checkpoint, {"epoch": np.asarray(9)}, keep_previous=True)
    assert epoch_of(checkpoints.previous(checkpoint)) == 4
    assert checkpoints.read_checkpoint(checkpoint, lines.append) == {"epoch": 9}
    assert len(lines) == 1


def test_with_both_checkpoints_damaged_a_stage_starts_from_its_beginning(checkpoint):
    for path in (checkpoint, checkpoints.previous(checkpoint)):
        path.write_bytes(b"")
    lines = []
    assert checkpoints.read_checkpoint(checkpoint, lines.append) is None
    assert lines == [f"the checkpoint {checkpoint} is damaged: the stage starts over"]
    assert not list(checkpoint.parent.iterdir())


def test_the_previous_checkpoint_is_read_if_a_replacement_was_interrupted(checkpoint):
    checkpoint.unlink()
    lines = []
    assert checkpoints.read_checkpoint(checkpoint, lines.append) == {"epoch": 4}
    assert lines == []
