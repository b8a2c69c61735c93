"""The model and data card: what is known of a run, as terms and texts."""

from collections.abc import Mapping
from typing import Any

from keras_ae.contract import SPLITS
from keras_ae.report.formatting import count, size

Rows = list[tuple[str, str]]


def card(run: Mapping[str, Any] | None) -> list[tuple[str, Rows]]:
    """Groups of terms and texts; what `run` does not tell is left out, and so are empty groups.

    Args:
        run: facts of the run as they stand in `comparison.json`, or None.
    """
    known = {name: value for name, value in (run or {}).items() if value is not None}
    groups = [
        ("Data", _data(known)),
        ("Model", _model(known)),
        ("Training", _training(known)),
        *_trained_on(known),
        ("Written on", _machine(known)),
    ]
    return [(title, rows) for title, rows in groups if rows]


def _data(run: Mapping[str, Any]) -> Rows:
    rows: Rows = []
    if "data" in run:
        rows.append(("source", str(run["data"])))
    counts = run.get("images", {})
    if counts:
        told = [f"{count(counts[name])} {name}" for name in SPLITS if name in counts]
        rows.append(("images", ", ".join(told)))
        rows.append(("quarantined", count(counts.get("quarantined", 0))))
    if "decoded_bytes" in run:
        place = f", {run['placement']}" if "placement" in run else ""
        rows.append(("training images", f"{size(run['decoded_bytes'])} decoded{place}"))
    if "data_fingerprint" in run:
        rows.append(("fingerprint", str(run["data_fingerprint"])))
    return rows


def _model(run: Mapping[str, Any]) -> Rows:
    rows: Rows = []
    if "preset" in run:
        rows.append(("preset", str(run["preset"])))
    if "parameters" in run:
        rows.append(("parameters", count(run["parameters"])))
    if "flops_per_pixel" in run:
        rows.append(("FLOPs per pixel", count(run["flops_per_pixel"])))
    if {"stride", "channels", "latent_channels"} <= run.keys():
        share = run["stride"] ** 2 * run["channels"] / run["latent_channels"]
        rows.append(
            (
                "latent",
                f"{run['latent_channels']} channels at stride {run['stride']}: "
                f"1/{share:g} of the numbers of the image",
            )
        )
    return rows


def _training(run: Mapping[str, Any]) -> Rows:
    rows: Rows = []
    if {"tile", "tiles_per_epoch"} <= run.keys():
        tile = run["tile"]
        rows.append(("an epoch", f"{count(run['tiles_per_epoch'])} tiles of {tile}x{tile}"))
    if "batch_size" in run:
        rows.append(("batch size", count(run["batch_size"])))
    if "tiles_per_second" in run:
        rows.append(("speed", f"{count(run['tiles_per_second'])} tiles/s in the last stage"))
    seeds = run.get("seeds") or ([run["seed"]] if "seed" in run else [])
    if seeds:
        rows.append(("seed" if len(seeds) == 1 else "seeds", ", ".join(map(str, seeds))))
    if "backend" in run:
        rows.append(("backend", str(run["backend"])))
    if "code_fingerprint" in run:
        rows.append(("code", str(run["code_fingerprint"])))
    return rows


def _trained_on(run: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    places = run.get("trained_on", [])
    return [
        ("Trained on" if len(places) == 1 else f"Trained on, {i} of {len(places)}", _place(place))
        for i, place in enumerate(places, 1)
    ]


def _place(place: Mapping[str, Any]) -> Rows:
    stages = sorted(place["stages"], key=lambda name: (len(name), name))
    rows: Rows = [("stages", ", ".join(stages)), *_hardware(place["machine"])]
    flags = place["machine"].get("cpu_flags")
    if flags:
        rows.append(("processor flags", ", ".join(flags)))
    versions = place["packages"]
    named = [f"{name} {versions[name]}" for name in ("python", "keras", place["backend"])]
    rows.append(("with", ", ".join(dict.fromkeys(named))))
    settings = [f"{name}={value}" for name, value in place["environment"].items()]
    rows.append(("environment", ", ".join(settings) or "nothing set"))
    return rows


def _hardware(machine: Mapping[str, Any]) -> Rows:
    rows: Rows = []
    if machine.get("processor"):
        cores = f", {machine['cores']} cores" if machine.get("cores") else ""
        rows.append(("processor", f"{machine['processor']}{cores}"))
    if machine.get("memory_bytes"):
        rows.append(("memory", size(machine["memory_bytes"])))
    if machine:
        rows.append(("accelerators", ", ".join(machine.get("accelerators") or []) or "none"))
    if machine.get("platform"):
        rows.append(("platform", str(machine["platform"])))
    return rows


def _machine(run: Mapping[str, Any]) -> Rows:
    rows = _hardware(run.get("machine", {}))
    if "git" in run:
        changed = ", with changes that are not committed" if run["git"].get("dirty") else ""
        rows.append(("git commit", f"{run['git']['commit']}{changed}"))
    if "created" in run:
        rows.append(("written", str(run["created"]).replace("T", " ").replace("+00:00", " UTC")))
    return rows
