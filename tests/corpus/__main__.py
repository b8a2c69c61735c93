"""Writes the corpus."""

import sys
from pathlib import Path

from tests.corpus import write

if __name__ == "__main__":
    write(Path(sys.argv[1]).absolute())
