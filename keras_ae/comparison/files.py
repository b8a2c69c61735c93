"""What a comparison leaves on disk."""

from typing import Final

COMPARISON: Final = "comparison.json"
IMAGES: Final = "images.jsonl"
"""One line for each image, with its scores."""
VERSION: Final = 1
"""Of `comparison.json`; it changes when a program that read the one before would go wrong."""
