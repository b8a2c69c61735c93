"""The ladder of epoch budgets: training to a budget continues from the previous budget."""

from typing import NamedTuple

from keras_ae.errors import ConfigurationError

DEFAULT = (10, 100, 500, 1000, 2000)


class Stage(NamedTuple):
    """The epochs from `start` (exclusive) to `stop` (inclusive) of a ladder."""

    start: int
    stop: int


def parse(text: str) -> tuple[int, ...]:
    """Parses budgets in epochs: increasing positive integers separated by commas.

    Raises ConfigurationError if the text has another format.

    >>> parse("10,100,500")
    (10, 100, 500)
    """
    try:
        budgets = tuple(int(part) for part in text.split(","))
    except ValueError:
        budgets = ()
    if not budgets or budgets[0] < 1 or any(a >= b for a, b in zip(budgets, budgets[1:])):
        raise ConfigurationError(
            f"budgets must be increasing positive integers such as 10,100,500; got {text!r}"
        )
    return budgets


def stages(budgets: tuple[int, ...]) -> tuple[Stage, ...]:
    """Splits a ladder into its stages.

    >>> stages((10, 100))
    (Stage(start=0, stop=10), Stage(start=10, stop=100))
    """
    return tuple(Stage(a, b) for a, b in zip((0, *budgets), budgets))
