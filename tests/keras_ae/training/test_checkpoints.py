import numpy as np
import pytest

from keras_ae.errors import DamagedError, StorageError
from keras_ae.training import checkpoints

ARRAYS = {"epoch": np.asarray(4), "model/0": np.arange(6, dtype=np.float32).reshape(2, 3)}


def epochs(path) -> int:
    return int(checkpoints.read(path)["epoch"])


@pytest.fixture
def state(tmp_path):
    checkpoints.write(tmp_path / "new" / "state.npz", ARRAYS)
    return tmp_path / "new" / "state.npz"


def test_what_is_written_is_read_again_also_by_numpy(state):
    with np.load(state) as file:
        for arrays in (checkpoints.read(state), dict(file)):
            assert arrays.keys() == ARRAYS.keys()
            for name, array in ARRAYS.items():
                np.testing.assert_array_equal(arrays[name], array, strict=True)
    assert [path.name for path in state.parent.iterdir()] == ["state.npz"]


def test_a_bit_that_is_flipped_and_bytes_that_are_missing_are_noticed_wherever_they_are(state):
    content = state.read_bytes()
    for place in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        for damaged in (flipped, content[:place]):
            state.write_bytes(damaged)
            with pytest.raises(DamagedError, match=r"state\.npz is damaged: .*; delete it, and"):
                checkpoints.read(state)
    state.write_bytes(content + b"\0")
    with pytest.raises(DamagedError):
        checkpoints.read(state)


def test_a_state_that_is_not_there_is_no_damaged_one(tmp_path):
    with pytest.raises(StorageError, match="No such file") as raised:
        checkpoints.read(tmp_path / "state.npz")
    assert not isinstance(raised.value, DamagedError)


@pytest.fixture
def checkpoint(tmp_path):
    """Two checkpoints: of epoch 7, and of epoch 4 before it."""
    path = tmp_path / "stage.npz"
    for epoch in (1, 4, 7):
        checkpoints.write_checkpoint(path, {"epoch": np.asarray(epoch)})
    assert sorted(each.name for each in tmp_path.iterdir()) == ["stage.earlier.npz", "stage.npz"]
    return path


def test_the_last_checkpoint_counts(checkpoint):
    lines = []
    assert checkpoints.read_checkpoint(checkpoint, lines.append) == {"epoch": 7}
    assert lines == []


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    lines = []
    assert checkpoints.read_checkpoint(checkpoint, lines.append) == {"epoch": 4}
    assert lines == [
        f"the checkpoint {checkpoint} is damaged: the stage goes on from the one before it, in "
        "epoch 5"
    ]
    # It must not become the one before the next.
    checkpoints.write_checkpoint(checkpoint, {"epoch": np.asarray(9)})
    assert epochs(checkpoints.earlier(checkpoint)) == 4
    assert checkpoints.read_checkpoint(checkpoint, lines.append) == {"epoch": 9}
    assert len(lines) == 1


def test_with_both_damaged_a_stage_begins_anew(checkpoint):
    for path in (checkpoint, checkpoints.earlier(checkpoint)):
        path.write_bytes(b"")
    lines = []
    assert checkpoints.read_checkpoint(checkpoint, lines.append) is None
    assert lines == [f"the checkpoint {checkpoint} is damaged: the stage begins anew"]
    assert not list(checkpoint.parent.iterdir())


def test_a_checkpoint_that_was_lost_while_it_was_replaced_gives_way(checkpoint):
    checkpoint.unlink()
    lines = []
    assert checkpoints.read_checkpoint(checkpoint, lines.append) == {"epoch": 4}
    assert lines == []
