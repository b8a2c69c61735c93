"""Events in the logs of runs: when each step began and ended, and which epochs were trained."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

_LINE = re.compile(
    r"^[A-Z](\d{4} [\d:.]+) .*\] "
    r"(?:Component (\w+) is (running|finished)\.|epoch (\d+): loss (\S+))$"
)


class Event(NamedTuple):
    """An event in the log of a run.

    Attributes:
        log: file name of the log.
        time: time of the line.
        step: name of the pipeline's step.
        kind: "running" or "finished" for the step, or "epoch".
        epoch, loss: the number of an epoch and its loss as text.
    """

    log: str
    time: datetime
    step: str
    kind: str
    epoch: int = 0
    loss: str = ""


class RepeatedEpochs(NamedTuple):
    """Epochs of a Trainer that were trained again after an interruption.

    Attributes:
        trainer: name of the step.
        epochs: number of epochs.
        first: number of the first one.
        seconds: duration of their first training.
        same_losses: whether the second training had the same losses.
    """

    trainer: str
    epochs: int
    first: int
    seconds: float
    same_losses: bool


class Log:
    """The events in the logs of a root, which may still be growing."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self.events: list[Event] = []
        self.update()

    def update(self) -> None:
        """Reads the complete lines that were added since the last update."""
        for path in sorted(self._folder.glob("run-*.log")):
            offset = self._offsets.get(path, 0)
            with path.open("rb") as file:
                file.seek(offset)
                text = file.read()
            complete = text.rfind(b"\n") + 1
            self._offsets[path] = offset + complete
            for line in text[:complete].decode(errors="replace").splitlines():
                self._add(path.name, line)

    def _add(self, log: str, line: str) -> None:
        if not (match := _LINE.match(line)):
            return
        time = datetime.strptime(f"2000{match[1]}", "%Y%m%d %H:%M:%S.%f")
        if match[2]:
            self.events.append(Event(log, time, match[2], match[3]))
        else:
            step = self.events[-1].step if self.events else ""
            self.events.append(Event(log, time, step, "epoch", int(match[4]), match[5]))


def find_repeated_epochs(events: Sequence[Event]) -> list[RepeatedEpochs]:
    """The epochs that runs trained again after earlier runs were interrupted."""
    logs_of: dict[str, dict[str, list[Event]]] = {}
    for event in events:
        if event.step.startswith("Trainer"):
            logs_of.setdefault(event.step, {}).setdefault(event.log, []).append(event)
    repeated = []
    for trainer, logs in logs_of.items():
        # The epochs of an uninterrupted run: those that are trained again replace the earlier ones.
        kept: list[Event] = []
        for log_events in logs.values():
            epochs = [event for event in log_events if event.kind == "epoch"]
            if not epochs:
                continue
            first = epochs[0].epoch
            index = next((i for i, event in enumerate(kept) if event.epoch == first), None)
            if index is not None:
                # An epoch begins when the one before it ends, or its Trainer begins.
                start = kept[index - 1].time
                repeated.append(_compare(trainer, kept[index:], epochs, start))
                kept = kept[:index]
            running = next((event for event in log_events if event.kind == "running"), epochs[0])
            kept += [running._replace(epoch=-1), *epochs]
    return repeated


def _compare(
    trainer: str, old: Sequence[Event], new: Sequence[Event], start: datetime
) -> RepeatedEpochs:
    losses = {event.epoch: event.loss for event in new}
    old = [event for event in old if event.epoch > 0]
    same_losses = all(losses.get(event.epoch, event.loss) == event.loss for event in old)
    seconds = (old[-1].time - start) / timedelta(seconds=1)
    return RepeatedEpochs(trainer, len(old), old[0].epoch, seconds, same_losses)
