"""The model and data card: the facts about a run, as terms and descriptions."""

from keras_ae.comparison.records import Machine, Run, TrainingEnvironment
from keras_ae.contract import SPLITS
from keras_ae.report.formatting import count, size

Rows = list[tuple[str, str]]


def card(run: Run) -> list[tuple[str, Rows]]:
    """Groups of terms and descriptions by title, without unknown facts and empty groups."""
    groups = [
        ("Data", _data(run)),
        ("Model", _model(run)),
        ("Training", _training(run)),
        *_trained_on(run),
        ("Report written on", _written(run)),
    ]
    return [(title, rows) for title, rows in groups if rows]


def _data(run: Run) -> Rows:
    rows: Rows = []
    if run.data is not None:
        rows.append(("source", run.data))
    if run.images:
        counts = ", ".join(f"{count(run.images[name])} {name}" for name in SPLITS)
        rows += [("images", counts), ("quarantined", count(run.images.quarantined))]
        if run.images.copies:
            rows.append(("copies", f"{count(run.images.copies)} of the images"))
    if run.decoded_bytes is not None:
        placement = f", {run.placement}" if run.placement else ""
        rows.append(("training images", f"{size(run.decoded_bytes)} decoded{placement}"))
    if run.data_fingerprint is not None:
        rows.append(("fingerprint", run.data_fingerprint))
    return rows


def _model(run: Run) -> Rows:
    rows: Rows = []
    if run.preset is not None:
        rows.append(("preset", run.preset))
    if run.parameters is not None:
        rows.append(("parameters", count(run.parameters)))
    if run.flops_per_pixel is not None:
        rows.append(("FLOPs per pixel", count(run.flops_per_pixel)))
    if run.stride and run.channels and run.latent_channels:
        share = run.stride**2 * run.channels / run.latent_channels
        rows.append(
            (
                "latent",
                f"{run.latent_channels} channels at stride {run.stride}: "
                f"1/{share:g} of the values of the image",
            )
        )
    return rows


def _training(run: Run) -> Rows:
    rows: Rows = []
    if run.tile is not None and run.tiles_per_epoch is not None:
        rows.append(("epoch", f"{count(run.tiles_per_epoch)} tiles of {run.tile}x{run.tile}"))
    if run.batch_size is not None:
        rows.append(("batch size", count(run.batch_size)))
    if run.tiles_per_second is not None:
        rows.append(("speed", f"{count(run.tiles_per_second)} tiles/s in the last stage"))
    seeds = run.seeds or (() if run.seed is None else (run.seed,))
    if seeds:
        rows.append(("seed" if len(seeds) == 1 else "seeds", ", ".join(map(str, seeds))))
    if run.backend is not None:
        rows.append(("backend", run.backend))
    if run.code_fingerprint is not None:
        rows.append(("code", run.code_fingerprint))
    return rows


def _trained_on(run: Run) -> list[tuple[str, Rows]]:
    environments = run.trained_on or ()
    total = len(environments)
    return [
        ("Trained on" if total == 1 else f"Trained on ({i} of {total})", _environment(environment))
        for i, environment in enumerate(environments, 1)
    ]


def _environment(environment: TrainingEnvironment) -> Rows:
    stages = sorted(environment.stages, key=lambda name: (len(name), name))
    rows: Rows = [("stages", ", ".join(stages)), *_hardware(environment.machine)]
    if environment.machine.cpu_flags:
        rows.append(("processor flags", ", ".join(environment.machine.cpu_flags)))
    names = dict.fromkeys(("python", "keras", environment.backend))
    packages = [f"{name} {environment.packages[name]}" for name in names]
    rows.append(("packages", ", ".join(packages)))
    variables = [f"{name}={value}" for name, value in environment.environment.items()]
    rows.append(("environment variables", ", ".join(variables) or "none set"))
    return rows


def _hardware(machine: Machine) -> Rows:
    return [
        ("processor", f"{machine.processor}, {machine.cores} cores"),
        ("memory", size(machine.memory_bytes)),
        ("accelerators", ", ".join(machine.accelerators) or "none"),
        ("platform", machine.platform),
    ]


def _written(run: Run) -> Rows:
    rows = _hardware(run.machine) if run.machine else []
    if run.git:
        changes = ", with uncommitted changes" if run.git.dirty else ""
        rows.append(("git commit", f"{run.git.commit}{changes}"))
    if run.created is not None:
        rows.append(("written", run.created.replace("T", " ").replace("+00:00", " UTC")))
    return rows
