"""With this folder on PYTHONPATH each Python process knows the tiny preset."""

import sys
from pathlib import Path

# For this import only: who needs the project on the path has to see to that.
sys.path.insert(0, str(Path(__file__).parents[3]))
from keras_ae.presets import PRESETS
from tests.tiny import TINY

del sys.path[0]
PRESETS[TINY.name] = TINY
