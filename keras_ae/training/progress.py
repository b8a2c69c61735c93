"""The progress of a stage: a bar on a screen, a line now and then anywhere else."""

from typing import Any, TextIO

from tqdm import tqdm


class Bar:
    """Shows how many of the epochs from `start` to `stop` are done, of which those up to `at` are
    done before.

    Args:
        stream: where to show it, or None.
    """

    def __init__(self, start: int, at: float, stop: int, stream: TextIO | None):
        self._start = start
        span: dict[str, Any] = {"total": stop - start, "initial": self._done(at), "unit": "epoch"}
        if stream is None or stream.isatty():
            name = f"    epochs {start} to {stop}"
            self._bar = tqdm(
                desc=name, **span, file=stream, disable=stream is None, dynamic_ncols=True
            )
            return
        line = "{desc}: {percentage:.0f} %, {elapsed} gone, {remaining} left{postfix}"
        name = f"epochs {start} to {stop}"
        self._bar = tqdm(
            desc=name, **span, file=_Lines(stream), bar_format=line, mininterval=20.0, miniters=0
        )

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, at: float, loss: float, rate: float) -> None:
        """Says how far it is.

        Args:
            at: epochs that are done, with the part of the present one.
            loss: of the last one, or of the present one so far.
            rate: tiles per second.
        """
        self._bar.set_postfix_str(f"loss {loss:.5f}, {rate:,.0f} tiles/s", refresh=False)
        self._bar.n = self._done(at)
        self._bar.update(0)

    def clear(self) -> None:
        """Makes room for another line on a screen, until the next update."""
        self._bar.clear()

    def _done(self, at: float) -> float:
        """An integer where it is one, for it is shown as it is."""
        return int(at) - self._start if at == int(at) else round(at - self._start, 2)


class _Lines:
    """Gives each state of a progress bar a line of its own, where none can be overwritten."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        if text.strip():
            self._stream.write("    " + text.strip() + "\n")

    def flush(self) -> None:
        self._stream.flush()
