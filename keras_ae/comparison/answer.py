"""Chooses a budget, and writes the answer of a comparison: one sentence, and notes."""

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
from keras_ae.comparison.statistics import MIN_IMAGES
from keras_ae.contract import SPLITS, TEST, VAL
from keras_ae.scores import MODEL


def choose_budget(val: Split, tolerance: float) -> tuple[int, str]:
    """Chooses the smallest budget whose mean val PSNR is within `tolerance` dB of the best.

    Returns:
        Its epochs, and the reason: a sentence without its full stop.
    """
    budgets = val.layout.budgets
    psnr = {budget: val.mean((MODEL, "psnr", budget)) or 0.0 for budget in budgets}
    best = max(psnr, key=lambda budget: (psnr[budget], -budget))
    # Rounding must not exclude a budget that is exactly `tolerance` below the best.
    chosen = next(b for b in psnr if psnr[b] >= psnr[best] - tolerance - 1e-9)
    if chosen == best:
        reason = f"{_epochs(chosen)} reached the highest val PSNR, {psnr[chosen]:.2f} dB"
        if len(psnr) > 1 and chosen > budgets[0]:
            reason += f"; no smaller budget is within {tolerance:g} dB of it"
    else:
        reason = (
            f"{_epochs(chosen)} reached {psnr[chosen]:.2f} dB of val PSNR, within {tolerance:g} dB "
            f"of the best, {psnr[best]:.2f} dB at {_epochs(best)}"
        )
    return chosen, reason


def compose_answer(comparison: Comparison) -> Answer:
    """Writes the answer of a comparison, ignoring the answer that it already has."""
    return Answer(sentence=_sentence(comparison), notes=tuple(_notes(comparison)))


def _sentence(comparison: Comparison) -> str:
    """States the budget that was chosen on val, and its quality on test."""
    seeds, test = comparison.seeds, comparison.chosen.test
    gain = test.gain_over_floor.value
    over_seeds = f" with {len(seeds.seeds)} seeds" if seeds else ""
    interval = seeds.splits.test.interval if seeds else test.psnr.interval
    side = "above" if gain >= 0 else "below"
    claim = _claim(comparison)
    if gain < 0:
        claim = f"The model does not beat the linear floor. {claim}"
    return (
        f"{claim}: PSNR {test.psnr.value:.2f} dB{_format_interval(interval)} "
        f"on {_count(test.images, TEST)}{_copies_of(comparison, TEST)}{over_seeds}, "
        f"{abs(gain):.2f} dB {side} PCA with the same latent size"
        f"{_format_interval(test.gain_over_floor.interval, sign=True)}."
    )


def _claim(comparison: Comparison) -> str:
    chosen, tolerance = comparison.chosen.epochs, comparison.tolerance
    psnr = _val_psnr(comparison)
    last = max(psnr)
    if len(psnr) == 1:
        return f"After {_epochs(chosen)}"
    if chosen == last:
        return (
            f"{_epochs(chosen)} are worth training; "
            f"every smaller budget is more than {tolerance:g} dB worse"
        )
    verb = "is" if chosen == 1 else "are"
    loss = psnr[chosen] - psnr[last]
    if psnr[chosen] == max(psnr.values()) and loss > tolerance:
        return f"{_epochs(chosen)} {verb} best; {_epochs(last)} are {loss:.2f} dB worse"
    claim = f"{_epochs(chosen)} {verb} enough; more epochs gain at most {tolerance:g} dB"
    return f"{claim}, and {_epochs(last)} are {loss:.2f} dB worse" if loss > tolerance else claim


def _epochs(epochs: int) -> str:
    return "1 epoch" if epochs == 1 else f"{epochs:,} epochs"


def _val_psnr(comparison: Comparison) -> dict[int, float]:
    return {b.epochs: b.splits.val.psnr.value for b in comparison.budgets}


def _notes(comparison: Comparison) -> list[Note]:
    return [
        *_few_images(comparison),
        *_copies(comparison),
        *_in_train(comparison),
        *_decrease_on_val(comparison),
        *_overfitting(comparison),
        *_disagreement_of_test(comparison),
        *_disagreement_of_wilcoxon(comparison),
        *_worse_slices(comparison),
        *_worst_decile(comparison),
        *_longer_ladder(comparison),
        *_seeds(comparison),
        *_undefined_ssim(comparison),
        *_sampled(comparison),
    ]


def _note(kind: NoteKind, text: str) -> Note:
    return Note(kind=kind, text=text)


def _few_images(comparison: Comparison) -> list[Note]:
    images = comparison.images.of
    counts = [
        f"{_count(images[split], split)}{_copies_of(comparison, split)}"
        for split in SPLITS
        if images[split] < MIN_IMAGES
    ]
    if not counts:
        return []
    listed = " and ".join(filter(None, (", ".join(counts[:-1]), counts[-1])))
    return [
        _note(
            "few_images",
            f"Few images: {listed}. Intervals and significance tests need at least {MIN_IMAGES} "
            "images, so these numbers describe these images and may not hold for others.",
        )
    ]


def _copies(comparison: Comparison) -> list[Note]:
    files, different = comparison.images.files, comparison.images.of
    if files is None:
        return []
    listed = "; ".join(
        f"{_count_files(files[split], split)}, {different[split]:,} different"
        for split in SPLITS
        if files[split] > different[split]
    )
    return [
        _note(
            "copies",
            f"Copies: {listed}. A picture counts once, as its largest file; training uses all.",
        )
    ]


def _in_train(comparison: Comparison) -> list[Note]:
    in_train, images = comparison.images.in_train, comparison.images.of
    if in_train is None:
        return []
    counts = {VAL: in_train.val, TEST: in_train.test}
    listed = " and ".join(
        f"{count:,} of {images[split]:,} {split} picture{'' if images[split] == 1 else 's'}"
        for split, count in counts.items()
        if count
    )
    verb = "is" if sum(counts.values()) == 1 else "are"
    return [
        _note(
            "in_train",
            f"{listed} {verb} in train too, so that the results may be too good for new images.",
        )
    ]


def _copies_of(comparison: Comparison, split: str) -> str:
    """Files and pictures of a split in parentheses after a space, or nothing without copies."""
    files, different = comparison.images.files, comparison.images.of[split]
    if files is None or files[split] == different:
        return ""
    return f" ({files[split]:,} files, {different:,} different)"


def _decrease_on_val(comparison: Comparison) -> list[Note]:
    psnr = _val_psnr(comparison)
    chosen, last = comparison.chosen.epochs, max(psnr)
    if psnr[chosen] - psnr[last] <= comparison.tolerance:
        return []
    entry = next(e for e in comparison.against_chosen if e.epochs == last)
    loss = entry.splits.val.psnr
    if loss.interval is None:
        conclusion = "more training makes these images worse"
    elif loss.interval[0] > 0:
        conclusion = "more training makes the model worse"
    else:
        conclusion = "this may be due to chance"
    return [
        _note(
            "falls",
            f"Val PSNR falls by {_format_estimate(loss)} from {chosen:,} to {last:,} epochs: "
            f"{conclusion}.",
        )
    ]


def _overfitting(comparison: Comparison) -> list[Note]:
    gap = comparison.gap
    return [_note("overfitting", f"{gap.text}.")] if gap.overfitting else []


def _disagreement_of_test(comparison: Comparison) -> list[Note]:
    """Where the test images, which were not used for the choice, do not support it."""
    chosen = comparison.chosen.epochs
    smaller = [e for e in comparison.against_chosen if e.epochs < chosen]
    larger = [e for e in comparison.against_chosen if e.epochs > chosen]
    texts = []
    if smaller:
        previous = smaller[-1].epochs
        gain = _gain_on_test(comparison, smaller[-1])
        low, high = gain.interval or (gain.value, gain.value)
        difference = _format_estimate(gain, sign=True)
        if high < 0:
            texts.append(f"On test, {chosen:,} epochs are worse than {previous:,}: {difference}.")
        elif low <= 0:
            texts.append(
                f"The test images do not show that {chosen:,} epochs are better than "
                f"{previous:,}: {difference}."
            )
    for entry in larger:
        gain = _gain_on_test(comparison, entry)
        high = (gain.interval or (0.0, gain.value))[1]
        if high < -comparison.tolerance:
            texts.append(
                f"On test, {entry.epochs:,} epochs are better than {chosen:,}, which val did not "
                f"show: {_format_estimate(_negated(gain), sign=True)}."
            )
    return [_note("no_difference", text) for text in texts]


def _gain_on_test(comparison: Comparison, entry: AgainstChosen) -> Paired:
    """The chosen budget minus another one, with the interval over seeds too where there is one."""
    gain = entry.splits.test.psnr
    if comparison.seeds:
        for step in comparison.seeds.differences:
            if (step.from_, step.to) == (entry.epochs, comparison.chosen.epochs):
                return gain.model_copy(update={"interval": step.splits.test.interval})
    return gain


def _negated(estimate: Estimate) -> Estimate:
    interval = estimate.interval
    return Estimate(
        mean=-estimate.value,
        interval=None if interval is None else (-interval[1], -interval[0]),
    )


def _disagreement_of_wilcoxon(comparison: Comparison) -> list[Note]:
    notes = []
    chosen = comparison.chosen.epochs
    for entry in comparison.against_chosen:
        gain = entry.splits.test.psnr
        if gain.interval is None or gain.wilcoxon_p is None:
            continue
        low, high = gain.interval
        if (low > 0 or high < 0) != (gain.wilcoxon_p < 0.05):
            notes.append(
                _note(
                    "wilcoxon",
                    f"{chosen:,} and {entry.epochs:,} epochs on test: the interval of the mean "
                    f"difference, {low:+.2f} to {high:+.2f} dB, and Wilcoxon's test, "
                    f"p = {gain.wilcoxon_p:.2g}, disagree. A few images may dominate the mean.",
                )
            )
    return notes


def _worse_slices(comparison: Comparison) -> list[Note]:
    return [
        _note(
            "worst_decile" if entry.by == HARDEST[0] else "slice",
            f"Better on average, worse for {_slice_name(entry)}: from {entry.from_:,} to "
            f"{entry.to:,} epochs, PSNR changes by {entry.overall:+.2f} dB over all test images, "
            f"but by {entry.mean:+.2f} dB{_format_interval(entry.interval, sign=True)} over the "
            f"{entry.images} images of this slice.",
        )
        for entry in comparison.slices.worse
    ]


def _slice_name(entry: WorseSlice) -> str:
    if entry.by == HARDEST[0]:
        return "the hardest tenth of the images"
    return f"{entry.by} {entry.value}"


def _worst_decile(comparison: Comparison) -> list[Note]:
    """Where the worst tenth of the images, other images at each budget, loses PSNR."""
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
            f"The mean PSNR of the worst tenth of the test images is {-change:.2f} dB lower at "
            f"{comparison.chosen.epochs:,} epochs than at {first.epochs:,}, although the mean of "
            "all test images is higher.",
        )
    ]


def _longer_ladder(comparison: Comparison) -> list[Note]:
    last = comparison.budgets[-1].epochs
    extrapolation = comparison.extrapolation
    if extrapolation.pays is None:
        return []
    if extrapolation.pays != "yes" and comparison.chosen.epochs != last:
        return []
    return [_note("longer", f"{extrapolation.text}.")]


def _seeds(comparison: Comparison) -> list[Note]:
    if not comparison.seeds:
        return []
    seed = comparison.chosen.seed
    means = next(s for s in comparison.chosen_budget.seeds if s.seed == seed)
    return [
        _note(
            "seeds",
            f"{comparison.seeds.text}. The model of seed {seed}, the best on val, is evaluated "
            f"for serving; its test PSNR is {means.test:.2f} dB.",
        )
    ]


def _undefined_ssim(comparison: Comparison) -> list[Note]:
    splits = comparison.budgets[0].splits
    counts = {split: summary.ssim.skipped for split, summary in splits.items()}
    if not any(counts.values()):
        return []
    listed = ", ".join(_count(count, split) for split, count in counts.items() if count)
    return [
        _note(
            "skipped",
            f"SSIM is not defined for {listed}: a side is shorter than its window of 11 pixels.",
        )
    ]


def _sampled(comparison: Comparison) -> list[Note]:
    kept, total = comparison.images.kept, comparison.images.of
    parts = [f"{kept[s]:,} of {total[s]:,} {s}" for s in SPLITS if kept[s] < total[s]]
    if not parts:
        return []
    return [
        _note(
            "sampled",
            "Means are over all images; intervals, medians and significance tests are over a "
            f"sample of {', '.join(parts)} images, selected by the hash of their content.",
        )
    ]


def _count(count: int, split: str) -> str:
    return f"{count:,} {split} image{'' if count == 1 else 's'}"


def _count_files(count: int, split: str) -> str:
    return f"{count:,} {split} file{'' if count == 1 else 's'}"


def _format_estimate(estimate: Estimate, sign: bool = False) -> str:
    number = f"{estimate.value:{'+' if sign else ''}.2f} dB"
    return f"{number}{_format_interval(estimate.interval, sign)}"


def _format_interval(interval: Sequence[float] | None, sign: bool = False) -> str:
    """The interval in parentheses after a space, or nothing where there is none."""
    if interval is None:
        return ""
    plus = "+" if sign else ""
    return f" ({interval[0]:{plus}.2f} to {interval[1]:{plus}.2f})"
