"""Comparisons as tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_ae.contract import SPLITS, TEST


def format_table(comparison: dict[str, Any]) -> str:
    """Mean PSNR, SSIM and MS-SSIM of every budget and floor, at most 100 columns wide."""
    head = (
        f"{'epochs':>10} {'seconds':>8} {'PSNR train':>11} {'val':>7} {'test':>7} "
        f"{'over floor':>11} {'SSIM test':>10} {'MS-SSIM test':>13}"
    )
    lines = [head]
    for key, name in (("patch_pca", "floor"), ("global_pca", "global PCA")):
        splits = comparison["floors"][key]["splits"]
        if splits:
            means = [splits[split]["mean"] for split in SPLITS]
            gain = splits[TEST]["gain_over_floor"]
            lines.append(_row(name, "", means, gain, None, None))
    chosen = comparison["chosen"]["epochs"]
    for entry in comparison["budgets"]:
        mark = "  <- chosen" if entry["epochs"] == chosen else ""
        lines.append(_budget_row(str(entry["epochs"]), entry) + mark)
    baseline = comparison["baseline"]
    if baseline:
        lines.append(f"  {baseline['preset']}:")
        lines += [_budget_row(str(entry["epochs"]), entry) for entry in baseline["budgets"]]
    return "\n".join(lines)


def _budget_row(name: str, entry: dict[str, Any]) -> str:
    splits = entry["splits"]
    test = splits[TEST]
    return _row(
        name,
        f"{entry['total_seconds']:.0f}",
        [splits[split]["psnr"]["mean"] for split in SPLITS],
        test["gain_over_floor"]["mean"],
        test["ssim"]["mean"],
        test["ms_ssim"]["mean"],
    )


def _row(
    name: str,
    seconds: str,
    psnr: Sequence[float | None],
    gain: float | None,
    ssim: float | None,
    ms_ssim: float | None,
) -> str:
    def number(value: float | None, width: int, digits: int, sign: str = "") -> str:
        return f"{'' if value is None else format(value, f'{sign}.{digits}f'):>{width}}"

    train, val, test = psnr
    return (
        f"{name:>10} {seconds:>8} {number(train, 11, 2)} {number(val, 7, 2)} {number(test, 7, 2)} "
        f"{number(gain, 11, 2, '+')} {number(ssim, 10, 4)} {number(ms_ssim, 13, 4)}"
    ).rstrip()


def format_runs(compared: Mapping[str, Any]) -> str:
    """The runs as text for a terminal."""
    width = max(len(row["name"]) for row in compared["runs"])
    lines = [
        f"{'run':<{width}}  {'preset':<10} {'epochs':>7} {'seconds':>8} {'test PSNR':>22} "
        f"{'over floor':>11} {'SSIM':>7}"
    ]
    for row in compared["runs"]:
        psnr, ssim = row["test"]["psnr"], row["test"]["ssim"]["mean"]
        lines.append(
            f"{row['name']:<{width}}  {row['preset'] or '':<10} {row['epochs']:>7} "
            f"{row['seconds']:>8.0f} {_shown(psnr):>22} "
            f"{row['test']['gain_over_floor']['mean']:>+11.2f} "
            f"{'' if ssim is None else format(ssim, '.4f'):>7}"
        )
    for pair in compared["pairs"]:
        lines.append("")
        if pair["psnr"]["mean"] is None:
            lines.append(f"{pair['run']} and {pair['against']}: {pair['text']}")
            continue
        p = pair["psnr"]["wilcoxon_p"]
        lines.append(
            f"{pair['run']} against {pair['against']}: {_shown(pair['psnr'], '+')} dB"
            + (f", Wilcoxon's p = {p:.2g}" if p is not None else "")
            + f"; {pair['text']}"
        )
    return "\n".join(lines)


def _shown(estimate: Mapping[str, Any], sign: str = "") -> str:
    text = f"{estimate['mean']:{sign}.2f}"
    if estimate["interval"] is None:
        return text
    low, high = estimate["interval"]
    return f"{text} ({low:{sign}.2f} to {high:{sign}.2f})"
