"""What the logs of runs say: which step began and ended when, and which epochs were trained."""

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
    """A step that is `running` or `finished`, or an `epoch` with its loss, in the log of a run."""

    log: str
    when: datetime
    step: str
    kind: str
    epoch: int = 0
    loss: str = ""


class Repeated(NamedTuple):
    """Epochs that were trained again: their number, the first, the seconds that they took before,
    and whether they had the same losses."""

    trainer: str
    epochs: int
    first: int
    seconds: float
    alike: bool


class Log:
    """The logs of a root, read as they grow."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._read: dict[Path, int] = {}
        self.events: list[Event] = []
        self.update()

    def update(self) -> None:
        """Reads what whole lines have come since."""
        for path in sorted(self._folder.glob("run-*.log")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                text = file.read()
            whole = text.rfind(b"\n") + 1
            self._read[path] = self._read.get(path, 0) + whole
            for line in text[:whole].decode(errors="replace").splitlines():
                self._add(path.name, line)

    def _add(self, log: str, line: str) -> None:
        if not (found := _LINE.match(line)):
            return
        when = datetime.strptime(f"2000{found[1]}", "%Y%m%d %H:%M:%S.%f")
        if found[2]:
            self.events.append(Event(log, when, found[2], found[3]))
        else:
            step = next((each.step for each in reversed(self.events)), "")
            self.events.append(Event(log, when, step, "epoch", int(found[4]), found[5]))


def repeated(events: Sequence[Event]) -> list[Repeated]:
    """The epochs that runs trained again after others were cut off."""
    runs: dict[str, dict[str, list[Event]]] = {}
    for event in events:
        if event.step.startswith("Trainer"):
            runs.setdefault(event.step, {}).setdefault(event.log, []).append(event)
    found = []
    for trainer, logs in runs.items():
        # As an uninterrupted run would have had them: what is trained again replaces what was.
        kept: list[Event] = []
        for of_run in logs.values():
            epochs = [event for event in of_run if event.kind == "epoch"]
            if not epochs:
                continue
            at = next((i for i, event in enumerate(kept) if event.epoch == epochs[0].epoch), None)
            if at is not None:
                found.append(_compared(trainer, kept[at:], epochs, _before(kept, at)))
                kept = kept[:at]
            began = next((event for event in of_run if event.kind == "running"), epochs[0])
            kept += [began._replace(epoch=-1), *epochs]
    return found


def _before(kept: Sequence[Event], at: int) -> datetime:
    """When an epoch began: when the one before it, or its Trainer's run, did."""
    return kept[at - 1].when if at else kept[at].when


def _compared(
    trainer: str, old: Sequence[Event], new: Sequence[Event], began: datetime
) -> Repeated:
    losses = {event.epoch: event.loss for event in new}
    old = [event for event in old if event.epoch > 0]
    alike = all(losses.get(event.epoch, event.loss) == event.loss for event in old)
    seconds = (old[-1].when - began) / timedelta(seconds=1)
    return Repeated(trainer, len(old), old[0].epoch, seconds, alike)
