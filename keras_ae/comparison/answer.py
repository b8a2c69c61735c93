"""The choice of a budget, and what is said of it: a sentence with its numbers, and notes."""

from collections.abc import Sequence

from keras_ae.comparison.records import (
    AgainstChosen,
    Answer,
    Comparison,
    Estimate,
    Note,
    NoteKind,
    Paired,
    WorseSlice,
)
from keras_ae.comparison.slices import HARDEST
from keras_ae.comparison.split import Split
from keras_ae.comparison.statistics import LEAST
from keras_ae.contract import SPLITS, TEST
from keras_ae.scores import MODEL


def choose(val: Split, tolerance: float) -> tuple[int, str]:
    """The smallest budget whose mean val PSNR is within `tolerance` dB of the best.

    Returns:
        Its epochs, and the reason: a sentence without its full stop.
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
    return chosen, reason


def answer(comparison: Comparison) -> Answer:
    """What is said of a comparison, whose own answer is not looked at."""
    return Answer(sentence=_sentence(comparison), notes=tuple(_notes(comparison)))


def _sentence(comparison: Comparison) -> str:
    """How many epochs it is worth, chosen on val and claimed on test."""
    seeds, test = comparison.seeds, comparison.chosen.test
    gain = test.gain_over_floor.value
    over = f" with {len(seeds.seeds)} seeds" if seeds else ""
    interval = seeds.splits.test.interval if seeds else test.psnr.interval
    side = "over" if gain >= 0 else "below"
    return (
        f"{_claim(comparison)}: {test.psnr.value:.2f}{_ends(interval)} dB "
        f"on {_count(test.images, TEST)}{over}, "
        f"{abs(gain):.2f} dB {side} PCA of the same size"
        f"{_ends(test.gain_over_floor.interval, sign=True)}."
    )


def _claim(comparison: Comparison) -> str:
    chosen, tolerance = comparison.chosen.epochs, comparison.tolerance
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
    return {b.epochs: b.splits.val.psnr.value for b in comparison.budgets}


def _notes(comparison: Comparison) -> list[Note]:
    return [
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


def _note(kind: NoteKind, text: str) -> Note:
    return Note(kind=kind, text=text)


def _few_images(comparison: Comparison) -> list[Note]:
    images = comparison.images.of
    few = [split for split in SPLITS if images[split] < LEAST]
    if not few:
        return []
    counts = [_count(images[split], split) for split in few]
    listed = " and ".join(filter(None, (", ".join(counts[:-1]), counts[-1])))
    return [
        _note(
            "few_images",
            f"Few images: {listed}. Fewer than {LEAST} give no interval and no test, so these "
            "numbers hold for these images and may not for others.",
        )
    ]


def _falls(comparison: Comparison) -> list[Note]:
    psnr = _val_psnr(comparison)
    chosen, last = comparison.chosen.epochs, max(psnr)
    loss = psnr[chosen] - psnr[last]
    if loss <= comparison.tolerance:
        return []
    entry = next(e for e in comparison.against_chosen if e.epochs == last)
    lost = entry.splits.val.psnr
    if lost.interval is None:
        sure = "more training hurts on these images"
    else:
        sure = "more training hurts" if lost.interval[0] > 0 else "it may be chance"
    return [
        _note(
            "falls",
            f"Val PSNR falls by {_with_interval(lost)} dB from {chosen:,} to {last:,} epochs: "
            f"{sure}.",
        )
    ]


def _gap(comparison: Comparison) -> list[Note]:
    gap = comparison.gap
    return [_note("overfitting", f"{gap.text}.")] if gap.overfitting else []


def _on_test(comparison: Comparison) -> list[Note]:
    """What test says of the choice, which had no say in it."""
    chosen = comparison.chosen.epochs
    smaller = [e for e in comparison.against_chosen if e.epochs < chosen]
    larger = [e for e in comparison.against_chosen if e.epochs > chosen]
    found = []
    if smaller:
        other = smaller[-1].epochs
        gain = _gain_on_test(comparison, smaller[-1])
        low, high = gain.interval or (gain.value, gain.value)
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
        high = (gain.interval or (0.0, gain.value))[1]
        if high < -comparison.tolerance:
            found.append(
                f"On test {entry.epochs:,} epochs are better than {chosen:,}, which val did not "
                f"show: {_with_interval(gain, sign=True)} dB for the {chosen:,}."
            )
    return [_note("no_difference", text) for text in found]


def _gain_on_test(comparison: Comparison, entry: AgainstChosen) -> Paired:
    """The chosen budget minus another one; of several seeds over them too, where that is known."""
    gain = entry.splits.test.psnr
    if comparison.seeds:
        for step in comparison.seeds.differences:
            if (step.from_, step.to) == (entry.epochs, comparison.chosen.epochs):
                return gain.model_copy(update={"interval": step.splits.test.interval})
    return gain


def _second_opinion(comparison: Comparison) -> list[Note]:
    found = []
    chosen = comparison.chosen.epochs
    for entry in comparison.against_chosen:
        gain = entry.splits.test.psnr
        if gain.interval is None or gain.wilcoxon_p is None:
            continue
        low, high = gain.interval
        if (low > 0 or high < 0) != (gain.wilcoxon_p < 0.05):
            found.append(
                _note(
                    "wilcoxon",
                    f"{chosen:,} against {entry.epochs:,} epochs on test: the interval is "
                    f"{low:+.2f} to {high:+.2f} dB, Wilcoxon's p = {gain.wilcoxon_p:.2g}: the "
                    "two do not agree, as where few images make up most of the mean.",
                )
            )
    return found


def _slices(comparison: Comparison) -> list[Note]:
    return [
        _note(
            "worst_decile" if entry.by == HARDEST[0] else "slice",
            f"Better on average, worse for {_named(entry)}: from {entry.from_:,} to "
            f"{entry.to:,} epochs {entry.overall:+.2f} dB over all test images, but "
            f"{entry.mean:+.2f}{_ends(entry.interval, sign=True)} dB over its {entry.images}.",
        )
        for entry in comparison.slices.worse
    ]


def _named(entry: WorseSlice) -> str:
    if entry.by == HARDEST[0]:
        return "the hardest tenth of the images"
    return f"{entry.by} {entry.value}"


def _hardest(comparison: Comparison) -> list[Note]:
    """The worst tenth at each budget, which are not the same images: named where it falls."""
    at_chosen, first = comparison.chosen.test.psnr, comparison.budgets[0]
    at_first = first.splits.test.psnr
    if at_first.worst_decile is None or at_chosen.worst_decile is None:
        return []
    change = at_chosen.worst_decile - at_first.worst_decile
    if at_chosen.value <= at_first.value or change >= -comparison.tolerance:
        return []
    return [
        _note(
            "worst_decile",
            f"The worst tenth of the test images is {change:+.2f} dB at "
            f"{comparison.chosen.epochs:,} epochs against that at {first.epochs:,}, though the "
            "mean is higher.",
        )
    ]


def _longer(comparison: Comparison) -> list[Note]:
    last = comparison.budgets[-1].epochs
    ahead = comparison.extrapolation
    if ahead.pays is None or (ahead.pays != "yes" and comparison.chosen.epochs != last):
        return []
    return [_note("longer", f"{ahead.text}.")]


def _seeds(comparison: Comparison) -> list[Note]:
    if not comparison.seeds:
        return []
    seed = comparison.chosen.seed
    own = next(s for s in comparison.chosen_budget.seeds if s.seed == seed)
    return [
        _note(
            "seeds",
            f"{comparison.seeds.text}. The model that goes on is that of seed {seed}, the best "
            f"on val: {own.test:.2f} dB on test.",
        )
    ]


def _skipped(comparison: Comparison) -> list[Note]:
    counts = {name: of.ssim.skipped for name, of in comparison.budgets[0].splits.items()}
    if not any(counts.values()):
        return []
    shown = ", ".join(_count(count, split) for split, count in counts.items() if count)
    return [
        _note(
            "skipped", f"SSIM leaves out {shown}: a side is shorter than its window of 11 pixels."
        )
    ]


def _sampled(comparison: Comparison) -> list[Note]:
    kept, of = comparison.images.kept, comparison.images.of
    parts = [f"{kept[s]:,} of {of[s]:,} {s}" for s in SPLITS if kept[s] < of[s]]
    if not parts:
        return []
    return [
        _note(
            "sampled",
            f"Means are over all images; intervals, medians and tests over {', '.join(parts)} "
            "images, drawn by a hash of their content.",
        )
    ]


def _count(count: int, split: str) -> str:
    return f"{count:,} {split} image{'' if count == 1 else 's'}"


def _with_interval(estimate: Estimate, sign: bool = False) -> str:
    return f"{estimate.value:{'+' if sign else ''}.2f}{_ends(estimate.interval, sign)}"


def _ends(interval: Sequence[float] | None, sign: bool = False) -> str:
    if interval is None:
        return ""
    kind = "+" if sign else ""
    return f" ({interval[0]:{kind}.2f} to {interval[1]:{kind}.2f})"
