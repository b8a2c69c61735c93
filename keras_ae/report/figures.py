"""Geometry of the report's figures, in the units of their SVG view boxes."""

import math
from typing import Any, NamedTuple

from keras_ae.contract import SPLITS

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 96, 16, 44


class Line(NamedTuple):
    """One split's curve: `points` for a polyline, `dots` of each budget, and its floors' y."""

    split: str
    points: str
    dots: list[tuple[float, float, str]]
    floor: float
    global_floor: float | None
    label_y: float


class Curve(NamedTuple):
    """Mean PSNR over epochs, ready to draw."""

    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    chosen: float


def psnr_curve(comparison: dict[str, Any]) -> Curve:
    """Lays out mean PSNR over epochs (logarithmic) for the splits, with their floors."""
    budgets = [entry["epochs"] for entry in comparison["budgets"]]
    psnr = {
        split: [entry["splits"][split]["psnr"]["mean"] for entry in comparison["budgets"]]
        for split in SPLITS
    }
    floors = comparison["floor"]
    whole: dict[str, Any] = comparison["global_floor"] or {}
    global_floors = {
        split: entry["mean"] for split, entry in whole.items() if entry["mean"] is not None
    }
    values = [v for split in SPLITS for v in (*psnr[split], floors[split])]
    values += global_floors.values()
    low, high, step = _nice_range(min(values), max(values))
    first, last = math.log10(budgets[0]), math.log10(budgets[-1])

    def x(epochs: float) -> float:
        share = (math.log10(epochs) - first) / (last - first) if last > first else 0.5
        return round(LEFT + 20 + share * (WIDTH - LEFT - RIGHT - 40), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    labels = _apart({split: y(psnr[split][-1]) for split in SPLITS}, 16.0)
    lines = []
    for split in SPLITS:
        dots = [
            (x(b), y(v), f"{split}, {b} epochs: {v:.2f} dB") for b, v in zip(budgets, psnr[split])
        ]
        points = " ".join(f"{px},{py}" for px, py, _ in dots)
        dotted = y(global_floors[split]) if split in global_floors else None
        lines.append(Line(split, points, dots, y(floors[split]), dotted, labels[split]))
    ticks = [low + i * step for i in range(round((high - low) / step) + 1)]
    return Curve(
        lines,
        [(x(budget), f"{budget:,}") for budget in budgets],
        [(y(tick), f"{tick:g}") for tick in ticks],
        x(comparison["chosen"]["epochs"]),
    )


def _nice_range(low: float, high: float) -> tuple[float, float, float]:
    """Round ends and step for an axis with four to eight ticks."""
    span = max(high - low, 0.1)
    scale = 10 ** math.floor(math.log10(span / 5))
    step = next(scale * m for m in (1, 2, 5, 10) if span / (scale * m) <= 7)
    return math.floor(low / step) * step, math.ceil(high / step + 1e-9) * step, step


def _apart(places: dict[str, float], gap: float) -> dict[str, float]:
    """Moves labels down until none covers another."""
    result: dict[str, float] = {}
    last = -math.inf
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        last = result[name] = max(place, last + gap)
    return result
