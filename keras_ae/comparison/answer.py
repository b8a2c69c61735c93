"""The choice of a budget, and what is said of it: a sentence with its numbers, and notes."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_ae.comparison.split import Split
from keras_ae.comparison.statistics import LEAST
from keras_ae.contract import SPLITS, TEST, VAL
from keras_ae.scores import MODEL

Comparison = Mapping[str, Any]


def choose(val: Split, tolerance: float) -> dict[str, Any]:
    """The smallest budget whose mean val PSNR is within `tolerance` dB of the best.

    Returns:
        `epochs` and `reason`, a sentence without its full stop.
    """
    budgets = val.layout.budgets
    psnr = {budget: val.mean((MODEL, "psnr", budget)) or 0.0 for budget in budgets}
    best = max(psnr, key=lambda budget: (psnr[budget], -budget))
    # A mean has more digits than are shown: 0.1 dB is meant to hold 0.1 dB.
    chosen = next(b for b in psnr if psnr[b] >= psnr[best] - tolerance - 1e-9)
    if chosen == best:
        reason = f"{_have(chosen)} the highest val PSNR, {psnr[chosen]:.2f} dB"
        if len(psnr) > 1 and chosen > budgets[0]:
            reason += f"; no smaller budget comes within {tolerance:g} dB"
    else:
        reason = (
            f"{_have(chosen)} {psnr[chosen]:.2f} dB of val PSNR, "
            f"within {tolerance:g} dB of the best, {psnr[best]:.2f} dB at {best}"
        )
    return {"epochs": chosen, "reason": reason}


def sentence(comparison: Comparison) -> str:
    """How many epochs it is worth, chosen on val and claimed on test."""
    chosen, seeds = comparison["chosen"], comparison["seeds"]
    test = chosen["test"]
    psnr, gain = test["psnr"], test["gain_over_floor"]
    over = f" with {len(seeds['seeds'])} seeds" if seeds else ""
    if seeds:
        psnr = {**psnr, "interval": seeds["splits"][TEST]["interval"]}
    side = "over" if gain["mean"] >= 0 else "below"
    ends = _ends(gain["interval"], sign=True)
    return (
        f"{_claim(comparison)}: {_with_interval(psnr)} dB on {_count(test['images'], TEST)}{over}, "
        f"{abs(gain['mean']):.2f} dB {side} PCA of the same size{ends}."
    )


def _claim(comparison: Comparison) -> str:
    chosen, tolerance = comparison["chosen"]["epochs"], comparison["tolerance"]
    psnr = _val_psnr(comparison)
    last = max(psnr)
    if len(psnr) == 1:
        return f"After {chosen:,} epoch{'' if chosen == 1 else 's'}"
    if chosen == last:
        return f"{chosen:,} epochs are worth it, fewer lose more than {tolerance:g} dB"
    loss = psnr[chosen] - psnr[last]
    if psnr[chosen] == max(psnr.values()) and loss > tolerance:
        return f"{_are(chosen)} best, {last:,} lose {loss:.2f} dB"
    claim = f"{_are(chosen)} enough, more gain at most {tolerance:g} dB"
    return f"{claim} and {last:,} lose {loss:.2f}" if loss > tolerance else claim


def _are(epochs: int) -> str:
    return "1 epoch is" if epochs == 1 else f"{epochs:,} epochs are"


def _have(epochs: int) -> str:
    return "1 epoch has" if epochs == 1 else f"{epochs} epochs have"


def _val_psnr(comparison: Comparison) -> dict[int, float]:
    return {b["epochs"]: b["splits"][VAL]["psnr"]["mean"] for b in comparison["budgets"]}


def notes(comparison: Comparison) -> list[dict[str, str]]:
    """What a reader has to know beside the sentence: each a `kind` and a `text`, a sentence."""
    found = [
        *_few_images(comparison),
        *_falls(comparison),
        *_gap(comparison),
        *_on_test(comparison),
        *_second_opinion(comparison),
        *_slices(comparison),
        *_hardest(comparison),
        *_longer(comparison),
        *_seeds(comparison),
        *_skipped(comparison),
        *_sampled(comparison),
    ]
    return [{"kind": kind, "text": text} for kind, text in found]


Note = tuple[str, str]


def _few_images(comparison: Comparison) -> list[Note]:
    images = comparison["budgets"][0]["splits"]
    few = [split for split in SPLITS if images[split]["images"] < LEAST]
    if not few:
        return []
    counts = [_count(images[split]["images"], split) for split in few]
    listed = " and ".join(filter(None, (", ".join(counts[:-1]), counts[-1])))
    return [
        (
            "few_images",
            f"Few images: {listed}. Fewer than {LEAST} give no interval and no test, so these "
            "numbers hold for these images and may not for others.",
        )
    ]


def _falls(comparison: Comparison) -> list[Note]:
    psnr = _val_psnr(comparison)
    chosen, last = comparison["chosen"]["epochs"], max(psnr)
    loss = psnr[chosen] - psnr[last]
    if loss <= comparison["tolerance"]:
        return []
    entry = next(e for e in comparison["against_chosen"] if e["epochs"] == last)
    lost = entry["splits"][VAL]["psnr"]
    if lost["interval"] is None:
        sure = "more training hurts on these images"
    else:
        sure = "more training hurts" if lost["interval"][0] > 0 else "it may be chance"
    return [
        (
            "falls",
            f"Val PSNR falls by {_with_interval(lost)} dB from {chosen:,} to {last:,} epochs: "
            f"{sure}.",
        )
    ]


def _gap(comparison: Comparison) -> list[Note]:
    gap = comparison["gap"]
    return [("overfitting", f"{gap['text']}.")] if gap["overfitting"] else []


def _on_test(comparison: Comparison) -> list[Note]:
    """What test says of the choice, which had no say in it."""
    chosen = comparison["chosen"]["epochs"]
    smaller = [e for e in comparison["against_chosen"] if e["epochs"] < chosen]
    larger = [e for e in comparison["against_chosen"] if e["epochs"] > chosen]
    found = []
    if smaller:
        other = smaller[-1]["epochs"]
        gain = _gain_on_test(comparison, smaller[-1])
        low, high = gain["interval"] or (gain["mean"], gain["mean"])
        shown = _with_interval(gain, sign=True)
        if high < 0:
            found.append(f"On test {chosen:,} epochs are worse than {other:,}: {shown} dB.")
        elif low <= 0:
            found.append(
                f"That {chosen:,} epochs are better than {other:,} is not shown on test: "
                f"{shown} dB."
            )
    for entry in larger:
        gain = _gain_on_test(comparison, entry)
        high = (gain["interval"] or (0.0, gain["mean"]))[1]
        if high < -comparison["tolerance"]:
            found.append(
                f"On test {entry['epochs']:,} epochs are better than {chosen:,}, which val did not "
                f"show: {_with_interval(gain, sign=True)} dB for the {chosen:,}."
            )
    return [("no_difference", text) for text in found]


def _gain_on_test(comparison: Comparison, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The chosen budget minus another one; of several seeds over them too, where that is known."""
    chosen = comparison["chosen"]["epochs"]
    gain: Mapping[str, Any] = entry["splits"][TEST]["psnr"]
    if comparison["seeds"]:
        for step in comparison["seeds"]["differences"]:
            if (step["from"], step["to"]) == (entry["epochs"], chosen):
                return {**gain, "interval": step["splits"][TEST]["interval"]}
    return gain


def _second_opinion(comparison: Comparison) -> list[Note]:
    found = []
    chosen = comparison["chosen"]["epochs"]
    for entry in comparison["against_chosen"]:
        gain = entry["splits"][TEST]["psnr"]
        if gain["interval"] is None:
            continue
        low, high = gain["interval"]
        if (low > 0 or high < 0) != (gain["wilcoxon_p"] < 0.05):
            found.append(
                (
                    "wilcoxon",
                    f"{chosen:,} against {entry['epochs']:,} epochs on test: the interval is "
                    f"{low:+.2f} to {high:+.2f} dB, Wilcoxon's p = {gain['wilcoxon_p']:.2g}: the "
                    "two do not agree, as where few images make up most of the mean.",
                )
            )
    return found


def _slices(comparison: Comparison) -> list[Note]:
    found = []
    for entry in comparison["slices"]["worse"]:
        found.append(
            (
                "worst_decile" if entry["by"] == "hardest tenth" else "slice",
                f"Better on average, worse for {_named(entry)}: from {entry['from']:,} to "
                f"{entry['to']:,} epochs {entry['overall']:+.2f} dB over all test images, but "
                f"{_with_interval(entry, sign=True)} dB over its {entry['images']}.",
            )
        )
    return found


def _named(entry: Mapping[str, Any]) -> str:
    if entry["by"] == "hardest tenth":
        return "the hardest tenth of the images"
    return f"{entry['by']} {entry['value']}"


def _hardest(comparison: Comparison) -> list[Note]:
    """The worst tenth at each budget, which are not the same images: named where it falls."""
    chosen = comparison["chosen"]["epochs"]
    psnr = {b["epochs"]: b["splits"][TEST]["psnr"] for b in comparison["budgets"]}
    first = min(psnr)
    if psnr[first]["worst_decile"] is None or psnr[chosen]["mean"] <= psnr[first]["mean"]:
        return []
    change = psnr[chosen]["worst_decile"] - psnr[first]["worst_decile"]
    if change >= -comparison["tolerance"]:
        return []
    return [
        (
            "worst_decile",
            f"The worst tenth of the test images is {change:+.2f} dB at {chosen:,} epochs against "
            f"that at {first:,}, though the mean is higher.",
        )
    ]


def _longer(comparison: Comparison) -> list[Note]:
    chosen = comparison["chosen"]["epochs"]
    last = comparison["budgets"][-1]["epochs"]
    ahead = comparison["extrapolation"]
    if ahead["pays"] is None or (ahead["pays"] != "yes" and chosen != last):
        return []
    return [("longer", f"{ahead['text']}.")]


def _seeds(comparison: Comparison) -> list[Note]:
    seeds = comparison["seeds"]
    if not seeds:
        return []
    chosen = comparison["chosen"]
    entry = next(e for e in comparison["budgets"] if e["epochs"] == chosen["epochs"])
    own = next(s for s in entry["seeds"] if s["seed"] == chosen["seed"])
    return [
        (
            "seeds",
            f"{seeds['text']}. The model that goes on is that of seed {chosen['seed']}, the best "
            f"on val: {own[TEST]:.2f} dB on test.",
        )
    ]


def _skipped(comparison: Comparison) -> list[Note]:
    splits = comparison["budgets"][0]["splits"]
    counts = {split: splits[split]["ssim"]["skipped"] for split in SPLITS}
    if not any(counts.values()):
        return []
    shown = ", ".join(_count(count, split) for split, count in counts.items() if count)
    return [
        ("skipped", f"SSIM leaves out {shown}: a side is shorter than its window of 11 pixels.")
    ]


def _sampled(comparison: Comparison) -> list[Note]:
    images = comparison["images"]
    parts = [s for s in SPLITS if images["kept"][s] < images["of"][s]]
    if not parts:
        return []
    shown = ", ".join(f"{images['kept'][s]:,} of {images['of'][s]:,} {s}" for s in parts)
    return [
        (
            "sampled",
            f"Means are over all images; intervals, medians and tests over {shown} images, drawn "
            "by a hash of their content.",
        )
    ]


def _count(count: int, split: str) -> str:
    return f"{count:,} {split} image{'' if count == 1 else 's'}"


def _with_interval(estimate: Mapping[str, Any], sign: bool = False) -> str:
    return f"{estimate['mean']:{'+' if sign else ''}.2f}{_ends(estimate['interval'], sign)}"


def _ends(interval: Sequence[float] | None, sign: bool = False) -> str:
    if interval is None:
        return ""
    kind = "+" if sign else ""
    return f" ({interval[0]:{kind}.2f} to {interval[1]:{kind}.2f})"
