"""What a comparison leaves on disk."""

from typing import Final

COMPARISON: Final = "comparison.json"
IMAGES: Final = "images.jsonl"
"""One line for each image, with its scores."""
PICTURES: Final = "pictures"
"""Folder of what the report shows, as `PICTURES_INDEX` in it lists."""
PICTURES_INDEX: Final = "pictures.json"
VERSION: Final = 1
"""Of `comparison.json`; it changes when a program that read the one before would go wrong."""
