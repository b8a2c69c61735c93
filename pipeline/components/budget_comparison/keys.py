"""Keys of the models in a run, and the names of the inputs and nodes that have them."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from keras_ae.scores import MODEL


class ModelKey(NamedTuple):
    """The key of the model of a ladder, a budget and a seed.

    Attributes:
        ladder: `MODEL` or `BASELINE`.
        budget: epochs.
        seed: seed of the ladder; None for the first one, which may be a runtime parameter.
    """

    ladder: str
    budget: int
    seed: int | None = None

    @property
    def input(self) -> str:
        """The name of the input of BudgetComparison and Report."""
        suffix = "" if self.seed is None else f"_seed_{self.seed}"
        return f"{self.ladder}_{self.budget}{suffix}"

    @property
    def node(self) -> str:
        """The name of the Trainer."""
        return f"Trainer_{self.input.removeprefix(f'{MODEL}_')}"


def to_json(keys: Iterable[ModelKey]) -> str:
    """Keys as text, for an execution parameter."""
    return json.dumps(list(keys))


def ladders(text: str) -> dict[str, list[dict[int, ModelKey]]]:
    """Reads the text of `to_json`: for each ladder a list with the keys of each seed, by budget in
    rising order. The first seed comes first, then the others in rising order."""
    keys = [ModelKey(*row) for row in json.loads(text)]
    keys.sort(key=lambda key: (-1 if key.seed is None else key.seed, key.budget))
    by_ladder: dict[str, dict[int | None, dict[int, ModelKey]]] = {}
    for key in keys:
        by_ladder.setdefault(key.ladder, {}).setdefault(key.seed, {})[key.budget] = key
    return {ladder: list(by_seed.values()) for ladder, by_seed in by_ladder.items()}
