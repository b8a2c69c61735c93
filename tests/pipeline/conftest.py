import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_ae.comparison.records import Comparison
from keras_ae.contract import SPLITS
from tests.keras_ae.report.reports import make_comparison

EPOCHS = (10, 100)


def _set_means(budgets: list[dict], first: float, ssim: float | None) -> None:
    """PSNR from `first`, 1.5 dB more at the second budget, 1 dB less on each next split."""
    for budget, rise in zip(budgets, (0.0, 1.5)):
        budget["total_seconds"] = float(budget["epochs"])
        for i, split in enumerate(SPLITS):
            summary = budget["splits"][split]
            summary["psnr"]["mean"] = first + rise - i
            summary["ssim"]["mean"] = summary["ms_ssim"]["mean"] = ssim
            summary["gain_over_floor"]["mean"] = first + rise - i - 28


@pytest.fixture
def comparison() -> Comparison:
    """Two budgets and a baseline, as BudgetComparison writes them for Report."""
    values = make_comparison(EPOCHS) | {"run": None, "verdict": None}
    _set_means(values["budgets"], 30.0, 0.8)
    _set_means(values["baseline"]["budgets"], 20.0, None)
    floor = {"mean": 28.0, "gain_over_floor": 0.0, "images": 3, "skipped": 0}
    values["floors"]["patch_pca"]["splits"] = dict.fromkeys(SPLITS, floor)
    values["answer"] = {
        "sentence": "100 epochs.",
        "notes": [{"kind": "longer", "text": "It rises."}],
    }
    values["chosen"] |= {"epochs": 100, "seed": 0}
    return Comparison.model_validate(values)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of pictures of one grey test image: level 10 and, at each budget, 20 and 30."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    levels = {"0.webp": 10, "0-floor.webp": 15, "0-10.webp": 20, "0-100.webp": 30}
    for name, level in levels.items():
        pixels = np.full((6, 9, 3), level, np.uint8)
        Image.fromarray(pixels).save(folder / name, lossless=True)
    budgets = {b: {"image": f"0-{b}.webp", "error": "", "psnr": 30.0} for b in ("10", "100")}
    image = {"name": "a/b.png", "original": "0.webp", "floor": "0-floor.webp", "budgets": budgets}
    (folder / "pictures.json").write_text(json.dumps({"error_top": 32, "images": [image]}))
    return folder
