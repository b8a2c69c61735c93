"""The progress of a stage: a bar on a terminal, and a line now and then on other streams."""

from typing import Any, TextIO

from tqdm import tqdm


class ProgressBar:
    """Shows the progress of the epochs from `start` to `stop`.

    Args:
        start, stop: epochs before and after the stage.
        epochs_done: epochs that are done at first: more than `start` after an interruption.
        stream: where to show the bar, or None to show nothing.
    """

    def __init__(self, start: int, epochs_done: float, stop: int, stream: TextIO | None):
        self._start = start
        span: dict[str, Any] = {
            "total": stop - start,
            "initial": self._since_start(epochs_done),
            "unit": "epoch",
        }
        if stream is None or stream.isatty():
            name = f"    epochs {start} to {stop}"
            self._bar = tqdm(
                desc=name, **span, file=stream, disable=stream is None, dynamic_ncols=True
            )
            return
        line = "{desc}: {percentage:.0f} %, {elapsed} elapsed, {remaining} left{postfix}"
        name = f"epochs {start} to {stop}"
        self._bar = tqdm(
            desc=name,
            **span,
            file=_LineStream(stream),
            bar_format=line,
            mininterval=20.0,
            miniters=0,
        )

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, epochs_done: float, loss: float, tiles_per_second: float) -> None:
        """Updates the bar.

        Args:
            epochs_done: completed epochs and the fraction of the current one.
            loss: loss of the current epoch so far, or of the last one at its end.
            tiles_per_second: training speed.
        """
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
        if epochs == int(epochs):
            return int(epochs) - self._start
        return round(epochs - self._start, 2)


class _LineStream:
    """Writes each state of a progress bar as a line, for streams that cannot overwrite lines."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        if text.strip():
            self._stream.write("    " + text.strip() + "\n")

    def flush(self) -> None:
        self._stream.flush()
