import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SPLITS = ("train", "val", "test")


def _summary(psnr: float, ssim: float | None) -> dict:
    return {
        "psnr": {"mean": psnr},
        "ssim": {"mean": ssim},
        "ms_ssim": {"mean": ssim},
        "gain_over_floor": {"mean": psnr - 28},
    }


def _budgets(first: float, ssim: float | None) -> list[dict]:
    return [
        {
            "epochs": epochs,
            "total_seconds": float(epochs),
            "splits": {s: _summary(first + rise - i, ssim) for i, s in enumerate(SPLITS)},
        }
        for epochs, rise in ((10, 0.0), (100, 1.5))
    ]


@pytest.fixture
def comparison() -> dict:
    """What Report's parts read of a comparison of two budgets beside a baseline."""
    floor = {"mean": 28.0, "gain_over_floor": 0.0, "images": 3, "skipped": 0}
    return {
        "tolerance": 0.1,
        "answer": {"sentence": "100 epochs.", "notes": [{"kind": "longer", "text": "It rises."}]},
        "chosen": {"epochs": 100, "seed": 0, "reason": "the highest val PSNR"},
        "budgets": _budgets(30.0, 0.8),
        "baseline": {"preset": "baseline", "parameters": 7, "budgets": _budgets(20.0, None)},
        "floors": {
            "patch_pca": {"splits": dict.fromkeys(SPLITS, floor), "reason": None},
            "global_pca": {"splits": None, "reason": "images differ in size"},
        },
    }


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of pictures of one grey test image: level 10 and, at each budget, 20 and 30."""
    place = tmp_path / "pictures"
    place.mkdir()
    levels = {"0.webp": 10, "0-floor.webp": 15, "0-10.webp": 20, "0-100.webp": 30}
    for name, level in levels.items():
        pixels = np.full((6, 9, 3), level, np.uint8)
        Image.fromarray(pixels).save(place / name, lossless=True)
    budgets = {b: {"image": f"0-{b}.webp", "error": "", "psnr": 30.0} for b in ("10", "100")}
    image = {"name": "a/b.png", "original": "0.webp", "floor": "0-floor.webp", "budgets": budgets}
    (place / "pictures.json").write_text(json.dumps({"error_top": 32, "images": [image]}))
    return place
