"""Synthetic scores whose true means are known."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest

from keras_ae.comparison.compare import compare
from keras_ae.scores import BASELINE, MODEL, Layout, Sums, make_table

BUDGETS = (10, 100, 500, 1000, 2000)
COUNTS = {"train": 200, "val": 60, "test": 60}


class World:
    """Images with a PSNR of known mean at every budget.

    Args:
        gains: mean gain over the floor in dB, by budget; or this by split.
        images: number of images by split.
        spread: standard deviation of the gain of an image around the mean, in dB.
        slices: by attribute, a function that maps the index of an image to its value.
        effects: by attribute and value, additional gains in dB by budget.
        seeds: number of seeds of the ladder.
        between: standard deviation of the mean of a seed, in dB.
        tiny: number of images of each split that have no SSIM.
        baseline: gains of the baseline by budget.
        seed: seed of the random gains.
    """

    def __init__(
        self,
        gains,
        images=COUNTS,
        spread=0.05,
        slices=None,
        effects=None,
        seeds=1,
        between=0.0,
        tiny=0,
        baseline=None,
        seed=0,
    ):
        by_split = gains if "val" in gains else dict.fromkeys(images, gains)
        budgets = tuple(by_split["val"])
        ladders = {MODEL: seeds, **({BASELINE: 1} if baseline else {})}
        self.layout = Layout(budgets, ladders)
        self.stages = {
            name: [[self._stage(name, s, *step) for step in zip((0, *budgets), budgets)]
                   for s in range(count)]
            for name, count in ladders.items()
        }  # fmt: skip
        rng = np.random.default_rng(seed)
        luck = rng.normal(0, between, (seeds, len(budgets)))
        self.scores = {}
        for split_index, (split, count) in enumerate(images.items()):
            # Every world has the same images.
            floor = np.random.default_rng(split_index).normal(28, 3, count)
            values = np.full((count, self.layout.width), np.nan)
            values[:, self.layout.floor_column("patch_pca")] = floor
            columns = {by: [name(i) for i in range(count)] for by, name in (slices or {}).items()}
            extra = np.zeros((count, len(budgets)))
            for (by, value), effect in (effects or {}).items():
                extra[np.array(columns[by]) == value] += [effect[b] for b in budgets]
            truths = {MODEL: by_split[split], BASELINE: baseline}
            for name, of_seeds in ladders.items():
                means = np.array([truths[name][b] for b in budgets]) + extra
                noise = rng.normal(0, spread, (count, of_seeds, len(budgets)))
                psnr = floor[:, None, None] + means[:, None, :] + noise
                psnr = psnr + (luck if name == MODEL else 0.0)
                self.layout.select(values, name, "psnr")[:] = psnr
                self.layout.select(values, name, "mse")[:] = 10 ** (-psnr / 10)
                self.layout.select(values, name, "ms_ssim")[:] = 0.95
                ssim = self.layout.select(values, name, "ssim")
                ssim[:] = psnr / 100 + 0.5
                ssim[:tiny] = np.nan
            names = [f"{split}/{i:05}.png" for i in range(count)]
            rows = make_table(names, [digest_of(name) for name in names], columns, values)
            sums = Sums()
            sums.add(rows)
            self.scores[split] = (sums, rows)

    @staticmethod
    def _stage(ladder, seed, before, stop):
        return SimpleNamespace(
            stop=stop,
            seconds=(stop - before) / 10,
            seed=seed,
            preset="baseline" if ladder == BASELINE else "medium",
            parameters=1000,
            losses=[1.0 / (epoch + 1) for epoch in range(before, stop)],
        )

    def recompute_sums(self):
        """Recomputes the sums after a table was changed."""
        for split, (_, rows) in self.scores.items():
            sums = Sums()
            sums.add(rows)
            self.scores[split] = (sums, rows)

    def compare(self, **arguments):
        """The comparison as `comparison.json` has it."""
        return json.loads(compare(self.scores, self.layout, self.stages, **arguments).to_json())


def digest_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


@pytest.fixture(scope="session")
def make_world():
    """The class `World`."""
    return World


@pytest.fixture(scope="session")
def note():
    """A function that returns the texts of a comparison's notes of a kind."""

    def texts(comparison, kind):
        return [n["text"] for n in comparison["answer"]["notes"] if n["kind"] == kind]

    return texts
