"""Comparisons as tables for the terminal."""

from collections.abc import Sequence

from keras_ae.comparison.records import Budget, Comparison, Runs
from keras_ae.contract import SPLITS


def format_table(comparison: Comparison) -> str:
    """The mean PSNR, SSIM and MS-SSIM of every budget and floor, at most 100 columns wide."""
    lines = [
        f"{'epochs':>10} {'seconds':>8} {'PSNR train':>11} {'val':>7} {'test':>7} "
        f"{'over floor':>11} {'SSIM test':>10} {'MS-SSIM test':>13}"
    ]
    for (_, floor), name in zip(comparison.floors, ("floor", "global PCA")):
        if splits := floor.splits:
            means = [splits[split].mean for split in SPLITS]
            lines.append(_row(name, "", means, splits.test.gain_over_floor))
    for entry in comparison.budgets:
        mark = "  <- chosen" if entry.epochs == comparison.chosen.epochs else ""
        lines.append(_budget_row(entry) + mark)
    if baseline := comparison.baseline:
        lines.append(f"  {baseline.preset}:")
        lines += [_budget_row(entry) for entry in baseline.budgets]
    return "\n".join(lines)


def _budget_row(entry: Budget) -> str:
    test = entry.splits.test
    return _row(
        str(entry.epochs),
        f"{entry.total_seconds:.0f}",
        [entry.splits[split].psnr.mean for split in SPLITS],
        test.gain_over_floor.mean,
        test.ssim.mean,
        test.ms_ssim.mean,
    )


def _row(
    name: str,
    seconds: str,
    psnr: Sequence[float | None],
    gain: float | None,
    ssim: float | None = None,
    ms_ssim: float | None = None,
) -> str:
    def number(value: float | None, width: int, digits: int, sign: str = "") -> str:
        return f"{'' if value is None else format(value, f'{sign}.{digits}f'):>{width}}"

    train, val, test = psnr
    return (
        f"{name:>10} {seconds:>8} {number(train, 11, 2)} {number(val, 7, 2)} {number(test, 7, 2)} "
        f"{number(gain, 11, 2, '+')} {number(ssim, 10, 4)} {number(ms_ssim, 13, 4)}"
    ).rstrip()


def format_runs(runs: Runs) -> str:
    """The runs as a table, and their paired differences."""
    width = max(len(row.name) for row in runs.runs)
    lines = [
        f"{'run':<{width}}  {'preset':<10} {'epochs':>7} {'seconds':>8} {'test PSNR':>22} "
        f"{'over floor':>11} {'SSIM':>7}"
    ]
    for row in runs.runs:
        ssim = row.test.ssim.mean
        lines.append(
            f"{row.name:<{width}}  {row.preset or '':<10} {row.epochs:>7} "
            f"{row.seconds:>8.0f} {row.test.psnr.format(unit=''):>22} "
            f"{row.test.gain_over_floor.value:>+11.2f} "
            f"{'' if ssim is None else format(ssim, '.4f'):>7}"
        )
    if len({row.latent for row in runs.runs}) > 1:
        lines += ["", "latents of different sizes:"]
        lines += [f"{row.name:<{width}}  {row.latent or 'unknown'}" for row in runs.runs]
    for pair in runs.pairs:
        lines.append("")
        if pair.psnr.mean is None:
            lines.append(f"{pair.run} and {pair.against}: {pair.text}")
            continue
        p = pair.psnr.wilcoxon_p
        lines.append(
            f"{pair.run} minus {pair.against}: {pair.psnr.format('+', unit='')} dB"
            + (f", Wilcoxon's p = {p:.2g}" if p is not None else "")
            + f"; {pair.text}"
        )
    return "\n".join(lines)
