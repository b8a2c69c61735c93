"""Which input of BudgetComparison holds which model."""

import re
from collections.abc import Iterable

from keras_ae.scores import BASELINE, MODEL

_KEY = re.compile(rf"({MODEL}|{BASELINE})_(\d+)(?:_seed_(\d+))?")


def model_key(budget: int, seed: int | None = None, ladder: str = MODEL) -> str:
    """The input that holds the model of a budget.

    Args:
        budget: in epochs.
        seed: of the ladder, or None for the first one.
        ladder: `MODEL` or `BASELINE`.
    """
    return f"{ladder}_{budget}" if seed is None else f"{ladder}_{budget}_seed_{seed}"


def ladders(keys: Iterable[str]) -> dict[str, list[dict[int, str]]]:
    """Sorts the inputs that hold models; others are passed over.

    Args:
        keys: names of inputs, as `model_key` gives them.

    Returns:
        By ladder, and of each seed that it has, the keys by budget in rising order; the first
        seed, which no key names, comes first, then the others as they rise.
    """
    found: dict[str, dict[int, dict[int, str]]] = {}
    for key in keys:
        if match := _KEY.fullmatch(key):
            ladder, budget, seed = match.groups()
            of_seed = found.setdefault(ladder, {}).setdefault(int(seed or -1), {})
            of_seed[int(budget)] = key
    return {
        ladder: [dict(sorted(by_seed[seed].items())) for seed in sorted(by_seed)]
        for ladder, by_seed in found.items()
    }
