"""With this folder on PYTHONPATH each Python process knows the tiny preset.

It is compiled by XLA, as the presets that people train are.
"""

import dataclasses
import sys
from pathlib import Path

# For this import only: who needs the project on the path has to see to that.
sys.path.insert(0, str(Path(__file__).parents[3]))
from keras_ae.presets import PRESETS
from tests.tiny import TINY

del sys.path[0]
PRESETS[TINY.name] = dataclasses.replace(TINY, jit_compile=True)
