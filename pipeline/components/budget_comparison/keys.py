"""Which input of BudgetComparison and Report holds which model."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from keras_ae.scores import MODEL


class ModelKey(NamedTuple):
    """The model of a budget.

    Attributes:
        ladder: `MODEL` or `BASELINE`.
        budget: in epochs.
        seed: of the ladder, or None for the first one, which may be known at run time only.
    """

    ladder: str
    budget: int
    seed: int | None = None

    @property
    def input(self) -> str:
        """The name of the input."""
        of_seed = "" if self.seed is None else f"_seed_{self.seed}"
        return f"{self.ladder}_{self.budget}{of_seed}"

    @property
    def node(self) -> str:
        """The name of the Trainer."""
        return f"Trainer_{self.input.removeprefix(f'{MODEL}_')}"


def to_json(keys: Iterable[ModelKey]) -> str:
    """Keys as an execution parameter."""
    return json.dumps(list(keys))


def ladders(text: str) -> dict[str, list[dict[int, ModelKey]]]:
    """Reads what `to_json` wrote.

    Returns:
        By ladder, and of each seed that it has, the keys by budget in rising order; the first seed
        comes first, then the others as they rise.
    """
    found: dict[str, dict[int, dict[int, ModelKey]]] = {}
    for key in sorted((ModelKey(*row) for row in json.loads(text)), key=_place):
        of_ladder = found.setdefault(key.ladder, {})
        of_ladder.setdefault(_place(key)[0], {})[key.budget] = key
    return {ladder: list(of_seeds.values()) for ladder, of_seeds in found.items()}


def _place(key: ModelKey) -> tuple[int, int]:
    return -1 if key.seed is None else key.seed, key.budget
