"""Adds the tiny preset in each Python process that has this folder on PYTHONPATH.

It is compiled by XLA, as the presets of the library are.
"""

import dataclasses
import sys
from pathlib import Path

# The project is on the path for these imports only; programs have to add it by themselves.
sys.path.insert(0, str(Path(__file__).parents[3]))
from keras_ae.presets import PRESETS
from tests.tiny import TINY

del sys.path[0]
PRESETS[TINY.name] = dataclasses.replace(TINY, jit_compile=True)
