"""The stages that a run trains, so that the Trainer of each can say how long the rest takes.

The plan is a variable of the process and no parameter of a Trainer, because TFX caches a stage by
its parameters: if they named the later budgets, adding a budget would train all of them again.
Without a plan, as in a container of Kubeflow Pipelines, there is no forecast.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from keras_ae import presets
from keras_ae.training.forecast import RemainingStage, SteadyRate, format_forecast
from keras_ae.training.ladder import Ladder
from pipeline.runtime.settings import StageSettings


class Stage(NamedTuple):
    """The node that trains epochs `start + 1` to `stop` of the ladder of a preset and a seed."""

    node: str
    preset: str
    seed: int
    start: int
    stop: int


class TrainingPlan:
    """The stages of a run in their order, and the speeds that were measured in it.

    Args:
        find_cached: maps the node that trains first to the later nodes that TFX will take from its
            cache; called once.

    Attributes:
        rates: epochs per second, by preset.
    """

    def __init__(self, stages: Sequence[Stage], find_cached: Callable[[str], Collection[str]]):
        self.stages, self._find_cached = stages, find_cached
        self._cached_nodes: Collection[str] | None = None
        self.rates: dict[str, float] = {}

    def ahead(self, stage: Stage, epochs: float) -> dict[str, list[RemainingStage]]:
        """The training that remains, by preset, while a stage trains and has done `epochs`."""
        if self._cached_nodes is None:
            try:
                self._cached_nodes = self._find_cached(stage.node)
            except Exception:
                # It reads what TFX has stored; a run must not fail because of a forecast.
                logging.exception("cannot find out which stages are cached")
                self._cached_nodes = ()
        work: dict[str, list[RemainingStage]] = {}
        is_later = False
        for each in self.stages:
            remaining = 0.0
            if each == stage:
                is_later, remaining = True, each.stop - epochs
            elif is_later and each.node not in self._cached_nodes:
                remaining = each.stop - each.start
            work.setdefault(each.preset, []).append(RemainingStage(each.stop, remaining))
        return work


class Forecast:
    """Forecasts, for the Trainer of one stage, the time that this stage and the later ones take."""

    def __init__(self, plan: TrainingPlan, stage: Stage):
        self._plan, self._stage, self._rate = plan, stage, SteadyRate()

    def during(self, ladder: Ladder) -> list[str]:
        """Lines for the terminal as soon as the speed of a preset is known, none otherwise.

        Called every second or so while the stage trains.
        """
        sizes, done = ladder.tiles.batch_sizes, ladder.position.batches_done
        epochs = ladder.epoch + sum(sizes[:done]) / sum(sizes)
        self._rate.update(epochs, ladder.seconds, ladder.micro_batch_size)
        if self._stage.preset in self._plan.rates or not self._rate.is_reliable:
            return []
        return self._lines(ladder, epochs)

    def at_end(self, ladder: Ladder) -> list[str]:
        """Lines for the terminal about the stages that follow."""
        return self._lines(ladder, self._stage.stop)

    def _lines(self, ladder: Ladder, epochs: float) -> list[str]:
        preset, rates = self._stage.preset, self._plan.rates
        if measured := self._rate.epochs_per_second:
            rates[preset] = measured
        if preset not in rates:
            return []
        ahead = self._plan.ahead(self._stage, epochs)
        own = ahead.pop(preset, [])
        return format_forecast(own, rates[preset], len(ladder.tiles), _describe_untimed(ahead))


def trainers(nodes: Iterable[Any]) -> list[Any]:
    """The nodes of a compiled pipeline that train a stage, in their order."""
    return [node for node in nodes if node.pipeline_node.node_info.id.startswith("Trainer")]


def stages(trainers: Iterable[Any]) -> list[Stage]:
    """The stages that these nodes train."""
    stages = []
    for node in (each.pipeline_node for each in trainers):
        values = {name: value.field_value for name, value in node.parameters.parameters.items()}
        settings = StageSettings.from_json(values["custom_config"].string_value)
        ladder = values["preset"].string_value, values["seed"].int_value
        stages.append(Stage(node.node_info.id, *ladder, settings.start, settings.stop))
    return stages


_plan = _no_plan = TrainingPlan((), lambda node: ())


@contextmanager
def in_use(plan: TrainingPlan) -> Iterator[None]:
    """Makes `forecast` use a plan within the block."""
    global _plan
    _plan = plan
    try:
        yield
    finally:
        _plan = _no_plan


def forecast(preset: str, seed: int, stop: int) -> Forecast:
    """The forecast for the stage of a preset and a seed that ends at `stop` epochs.

    It has no lines if no plan with such a stage is in use.
    """
    wanted = (preset, seed, stop)
    matches = (s for s in _plan.stages if (s.preset, s.seed, s.stop) == wanted)
    return Forecast(_plan, next(matches, Stage("", preset, seed, stop, stop)))


def _describe_untimed(ahead: dict[str, list[RemainingStage]]) -> str:
    """Describes the remaining epochs of presets whose speed is not known."""
    epochs = {preset: round(sum(work.epochs for work in works)) for preset, works in ahead.items()}
    texts = {preset: f"{n} epochs of the preset {preset}" for preset, n in epochs.items() if n}
    if presets.BASELINE in texts:
        texts[presets.BASELINE] = f"the baseline's {epochs[presets.BASELINE]} epochs"
    return " and ".join(texts.values())
