"""What a Trainer leaves in its Model artifact beside the SavedModel."""

from pathlib import Path
from typing import Final

MODEL: Final = Path("model.keras")
"""The model in Keras's own format, which the SavedModel has to answer as."""
STATE: Final = Path("training_state") / "state.npz"
SUMMARY: Final = Path("training_state") / "summary.json"
FLOOR: Final = Path("training_state") / "floor.npz"
