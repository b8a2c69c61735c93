"""Chooses a budget, and writes the answer of a comparison: one sentence, and notes."""

from collections.abc import Iterator, Sequence

from keras_ae.comparison.records import (
    AgainstChosen,
    Answer,
    Comparison,
    Note,
    NoteKind,
    Paired,
    format_interval,
)
from keras_ae.comparison.slices import HARDEST
from keras_ae.comparison.split import Split
from keras_ae.comparison.statistics import MIN_IMAGES
from keras_ae.contract import MAX_PSNR, SPLITS, TEST, VAL

Notes = Iterator[tuple[NoteKind, str]]


def choose_budget(val: Split, tolerance: float) -> tuple[int, str]:
    """Chooses the smallest budget whose mean val PSNR is within `tolerance` dB of the best.

    Returns:
        Its epochs, and the reason: a sentence without its full stop.
    """
    psnr, chosen = val.psnr_by_budget, val.cheapest_budget(tolerance)
    best = max(psnr, key=lambda budget: psnr[budget])
    if chosen < best:
        return chosen, (
            f"{_epochs(chosen)} reached {psnr[chosen]:.2f} dB of val PSNR, within {tolerance:g} dB "
            f"of the best, {psnr[best]:.2f} dB at {_epochs(best)}"
        )
    reason = f"{_epochs(chosen)} reached the highest val PSNR, {psnr[chosen]:.2f} dB"
    if chosen > min(psnr):
        reason += f"; no smaller budget is within {tolerance:g} dB of it"
    return chosen, reason


def compose_answer(comparison: Comparison) -> Answer:
    """Writes the answer of a comparison, ignoring the answer that it already has."""
    finders = (
        _few_images,
        _copies,
        _in_train,
        _lossless_floor,
        _decrease_on_val,
        _overfitting,
        _disagreement_of_test,
        _disagreement_of_wilcoxon,
        _worse_slices,
        _worst_decile,
        _longer_ladder,
        _seeds,
        _undefined_ssim,
        _sampled,
    )
    notes = (Note(kind=kind, text=text) for find in finders for kind, text in find(comparison))
    return Answer(sentence=_sentence(comparison), notes=tuple(notes))


def add_data_notes(answer: Answer, texts: Sequence[str]) -> Answer:
    """Adds notes on the data, which say what its numbers do not, to an answer.

    Args:
        answer: the answer.
        texts: sentences without their full stops.
    """
    notes = (Note(kind="data", text=f"{text}.") for text in texts)
    return answer.model_copy(update={"notes": (*answer.notes, *notes)})


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
        f"{claim}: PSNR {test.psnr.value:.2f} dB{format_interval(interval)} "
        f"on {_count(test.images, TEST)}{_copies_of(comparison, TEST)}{over_seeds}, "
        f"{abs(gain):.2f} dB {side} PCA with the same latent size"
        f"{format_interval(test.gain_over_floor.interval, '+')}."
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


def _few_images(comparison: Comparison) -> Notes:
    images = comparison.images.of
    counts = [
        f"{_count(images[split], split)}{_copies_of(comparison, split)}"
        for split in SPLITS
        if images[split] < MIN_IMAGES
    ]
    if counts:
        listed = " and ".join(filter(None, (", ".join(counts[:-1]), counts[-1])))
        yield (
            "few_images",
            f"Few images: {listed}. Intervals and significance tests need at least {MIN_IMAGES} "
            "images, so these numbers describe these images and may not hold for others.",
        )


def _copies(comparison: Comparison) -> Notes:
    parts = [f"{split}{text}" for split in SPLITS if (text := _copies_of(comparison, split))]
    if parts:
        yield (
            "copies",
            f"Copies: {', '.join(parts)}. A picture counts once, as its largest file; training "
            "uses all files.",
        )


def _in_train(comparison: Comparison) -> Notes:
    in_train, images = comparison.images.in_train, comparison.images.of
    counts = {VAL: in_train.val, TEST: in_train.test} if in_train else {}
    if listed := " and ".join(
        f"{count:,} of {images[split]:,} {split} pictures"
        for split, count in counts.items()
        if count
    ):
        result = "so that the results may be too good for new images"
        yield "in_train", f"{listed} are in train too, {result}."


def _lossless_floor(comparison: Comparison) -> Notes:
    floor = comparison.floors.patch_pca.splits
    if floor and floor.test.mean == MAX_PSNR:
        yield (
            "lossless",
            "PCA with the same latent size is lossless on test, so that no model can be better: "
            "choose fewer latent channels or a larger stride.",
        )


def _copies_of(comparison: Comparison, split: str) -> str:
    """Files and pictures of a split in parentheses after a space, or nothing without copies."""
    files, different = comparison.images.files, comparison.images.of[split]
    if files is None or files[split] == different:
        return ""
    return f" ({files[split]:,} files, {different:,} different)"


def _decrease_on_val(comparison: Comparison) -> Notes:
    psnr = _val_psnr(comparison)
    chosen, last = comparison.chosen.epochs, max(psnr)
    if psnr[chosen] - psnr[last] <= comparison.tolerance:
        return
    loss = next(e for e in comparison.against_chosen if e.epochs == last).splits.val.psnr
    if loss.interval is None:
        conclusion = "more training makes these images worse"
    elif loss.interval[0] > 0:
        conclusion = "more training makes the model worse"
    else:
        conclusion = "this may be due to chance"
    fall = f"{loss.format()} from {chosen:,} to {last:,} epochs"
    yield "falls", f"Val PSNR falls by {fall}: {conclusion}."


def _overfitting(comparison: Comparison) -> Notes:
    if comparison.gap.overfitting:
        yield "overfitting", f"{comparison.gap.text}."


def _disagreement_of_test(comparison: Comparison) -> Notes:
    """Where the test images, which were not used for the choice, do not support it."""
    chosen = comparison.chosen.epochs
    smaller = [e for e in comparison.against_chosen if e.epochs < chosen]
    for entry in smaller[-1:]:
        gain = _gain_on_test(comparison, entry)
        low, high = gain.interval or (gain.value, gain.value)
        pair, difference = f"{chosen:,} epochs are %s than {entry.epochs:,}", gain.format("+")
        if high < 0:
            yield "no_difference", f"On test, {pair % 'worse'}: {difference}."
        elif low <= 0:
            claim = f"The test images do not show that {pair % 'better'}"
            yield "no_difference", f"{claim}: {difference}."
    for entry in comparison.against_chosen[len(smaller) :]:
        gain = _gain_on_test(comparison, entry)
        high = (gain.interval or (0.0, gain.value))[1]
        if high < -comparison.tolerance:
            yield (
                "no_difference",
                f"On test, {entry.epochs:,} epochs are better than {chosen:,}, which val did not "
                f"show: {gain.scaled(-1.0).format('+')}.",
            )


def _gain_on_test(comparison: Comparison, entry: AgainstChosen) -> Paired:
    """The chosen budget minus another one, with the interval over seeds too where there is one."""
    gain = entry.splits.test.psnr
    for step in comparison.seeds.differences if comparison.seeds else ():
        if (step.from_, step.to) == (entry.epochs, comparison.chosen.epochs):
            return gain.model_copy(update={"interval": step.splits.test.interval})
    return gain


def _disagreement_of_wilcoxon(comparison: Comparison) -> Notes:
    for entry in comparison.against_chosen:
        gain = entry.splits.test.psnr
        if gain.interval is None or gain.wilcoxon_p is None:
            continue
        low, high = gain.interval
        if (low > 0 or high < 0) != (gain.wilcoxon_p < 0.05):
            yield (
                "wilcoxon",
                f"{comparison.chosen.epochs:,} and {entry.epochs:,} epochs on test: the interval "
                f"of the mean difference, {low:+.2f} to {high:+.2f} dB, and Wilcoxon's test, "
                f"p = {gain.wilcoxon_p:.2g}, disagree. A few images may dominate the mean.",
            )


def _worse_slices(comparison: Comparison) -> Notes:
    for entry in comparison.slices.worse:
        is_hardest = entry.by == HARDEST[0]
        name = "the hardest tenth of the images" if is_hardest else f"{entry.by} {entry.value}"
        yield (
            "worst_decile" if is_hardest else "slice",
            f"Better on average, worse for {name}: from {entry.from_:,} to {entry.to:,} epochs, "
            f"PSNR changes by {entry.overall:+.2f} dB over all test images, but by "
            f"{entry.mean:+.2f} dB{format_interval(entry.interval, '+')} over the "
            f"{entry.images} images of this slice.",
        )


def _worst_decile(comparison: Comparison) -> Notes:
    """Where the worst tenth of the images, other images at each budget, loses PSNR."""
    first = comparison.budgets[0]
    at_first, at_chosen = first.splits.test.psnr, comparison.chosen.test.psnr
    if at_first.worst_decile is None or at_chosen.worst_decile is None:
        return
    loss = at_first.worst_decile - at_chosen.worst_decile
    if at_chosen.value > at_first.value and loss > comparison.tolerance:
        yield (
            "worst_decile",
            f"The mean PSNR of the worst tenth of the test images is {loss:.2f} dB lower at "
            f"{comparison.chosen.epochs:,} epochs than at {first.epochs:,}, although the mean of "
            "all test images is higher.",
        )


def _longer_ladder(comparison: Comparison) -> Notes:
    extrapolation = comparison.extrapolation
    is_last = comparison.chosen.epochs == comparison.budgets[-1].epochs
    if extrapolation.pays == "yes" or (extrapolation.pays is not None and is_last):
        yield "longer", f"{extrapolation.text}."


def _seeds(comparison: Comparison) -> Notes:
    if comparison.seeds:
        seed = comparison.chosen.seed
        means = next(s for s in comparison.chosen_budget.seeds if s.seed == seed)
        yield (
            "seeds",
            f"{comparison.seeds.text}. The model of seed {seed}, the best on val, is evaluated "
            f"for serving; its test PSNR is {means.test:.2f} dB.",
        )


def _undefined_ssim(comparison: Comparison) -> Notes:
    skipped = [(s.ssim.skipped, split) for split, s in comparison.budgets[0].splits.items()]
    if listed := ", ".join(_count(*each) for each in skipped if each[0]):
        reason = "a side is shorter than its window of 11 pixels"
        yield "skipped", f"SSIM is not defined for {listed}: {reason}."


def _sampled(comparison: Comparison) -> Notes:
    kept, total = comparison.images.kept, comparison.images.of
    if parts := [f"{kept[s]:,} of {total[s]:,} {s}" for s in SPLITS if kept[s] < total[s]]:
        yield (
            "sampled",
            "Means are over all images; intervals, medians and significance tests are over a "
            f"sample of {', '.join(parts)} images, selected by the hash of their content.",
        )


def _count(count: int, split: str) -> str:
    return f"{count:,} {split} image{'' if count == 1 else 's'}"
