"""The progress of a stage: a bar on a terminal, and a line now and then on other streams."""

from typing import Any, TextIO

from tqdm import tqdm


class ProgressBar:
    """Shows the progress of the epochs from `start` to `stop` in a stream; None shows nothing.

    After an interruption, more epochs than `start` are done at first.
    """

    def __init__(self, start: int, epochs_done: float, stop: int, stream: TextIO | None):
        self._start = start
        name, done = f"epochs {start} to {stop}", self._since_start(epochs_done)
        settings: dict[str, Any]
        if stream is None or stream.isatty():
            name = f"    {name}"
            settings = {"file": stream, "disable": stream is None, "dynamic_ncols": True}
        else:
            line = "{desc}: {percentage:.0f} %, {elapsed} elapsed, {remaining} left{postfix}"
            settings = {"file": _LineStream(stream), "bar_format": line, "mininterval": 20.0}
            settings["miniters"] = 0
        self._bar = tqdm(desc=name, total=stop - start, initial=done, unit="epoch", **settings)

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, epochs_done: float, loss: float, tiles_per_second: float) -> None:
        """Shows the epochs done, with the fraction of the current one, its loss and the speed."""
        self._bar.set_postfix_str(
            f"loss {loss:.5f}, {tiles_per_second:,.0f} tiles/s", refresh=False
        )
        self._bar.n = self._since_start(epochs_done)
        self._bar.update(0)

    def clear(self) -> None:
        """Clears the bar until the next update, so that other lines can be printed."""
        self._bar.clear()

    def _since_start(self, epochs: float) -> float:
        """Returns whole numbers as integers, because tqdm prints the number as it is."""
        since = round(epochs - self._start, 2)
        return int(since) if epochs == int(epochs) else since


class _LineStream:
    """Writes each state of a progress bar as a line, for streams that cannot overwrite lines."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.flush = stream.flush

    def write(self, text: str) -> None:
        if text.strip():
            self._stream.write("    " + text.strip() + "\n")
