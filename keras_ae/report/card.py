"""The model and data card: the facts about a run, as terms and descriptions."""

from keras_ae.comparison.records import Run, TrainingEnvironment
from keras_ae.contract import SPLITS
from keras_ae.datasets.sources.kinds import format_counts
from keras_ae.report.formatting import count, size
from keras_ae.stages import Machine

Rows = list[tuple[str, str]]


def card(run: Run) -> list[tuple[str, Rows]]:
    """Groups of terms and descriptions by title, without unknown facts and empty groups."""
    environments = run.trained_on or ()
    numbers = [f" ({i} of {len(environments)})" for i in range(1, len(environments) + 1)]
    groups = [
        ("Data", _data(run)),
        ("Model", _model(run)),
        ("Training", _training(run)),
        *(
            (f"Trained on{number if len(numbers) > 1 else ''}", _environment(environment))
            for number, environment in zip(numbers, environments)
        ),
        ("Report written on", _written(run)),
    ]
    return [(title, rows) for title, rows in groups if rows]


def _known(*rows: tuple[str, str | None]) -> Rows:
    return [(term, text) for term, text in rows if text is not None]


def _count(number: float | None, suffix: str = "") -> str | None:
    return None if number is None else f"{count(number)}{suffix}"


def _data(run: Run) -> Rows:
    images = dict(run.images) if run.images else {}
    placement = f", {run.placement}" if run.placement else ""
    decoded = None if run.decoded_bytes is None else size(run.decoded_bytes)
    return _known(
        ("source", run.data),
        ("images", ", ".join(f"{count(images[name])} {name}" for name in SPLITS if images) or None),
        ("quarantined", _count(images.get("quarantined"))),
        ("copies", _count(images.get("copies"), " of the images")),
        ("levels", run.levels),
        ("splits", run.splits),
        ("not read", format_counts(run.not_read) if run.not_read else None),
        ("training images", decoded and f"{decoded} decoded{placement}"),
        ("fingerprint", run.data_fingerprint),
    )


def _model(run: Run) -> Rows:
    return _known(
        ("preset", run.preset),
        ("parameters", _count(run.parameters)),
        ("FLOPs per pixel", _count(run.flops_per_pixel)),
        ("latent", run.latent),
    )


def _training(run: Run) -> Rows:
    seeds = run.seeds or (() if run.seed is None else (run.seed,))
    tiles = None if run.tile is None else _count(run.tiles_per_epoch)
    return _known(
        ("epoch", tiles and f"{tiles} tiles of {run.tile}x{run.tile}"),
        ("batch size", _count(run.batch_size)),
        ("speed", _count(run.tiles_per_second, " tiles/s in the last stage")),
        ("seed" if len(seeds) == 1 else "seeds", ", ".join(map(str, seeds)) or None),
        ("backend", run.backend),
        ("code", run.code_fingerprint),
    )


def _environment(environment: TrainingEnvironment) -> Rows:
    stages = sorted(environment.stages, key=lambda name: (len(name), name))
    names = dict.fromkeys(("python", "keras", environment.backend))
    variables = [f"{name}={value}" for name, value in environment.environment.items()]
    return _known(
        ("stages", ", ".join(stages)),
        *_hardware(environment.machine),
        ("processor flags", ", ".join(environment.machine.cpu_flags) or None),
        ("packages", ", ".join(f"{name} {environment.packages[name]}" for name in names)),
        ("environment variables", ", ".join(variables) or "none set"),
    )


def _hardware(machine: Machine) -> Rows:
    return [
        ("processor", f"{machine.processor}, {machine.cores} cores"),
        ("memory", size(machine.memory_bytes)),
        ("accelerators", ", ".join(machine.accelerators) or "none"),
        ("platform", machine.platform),
    ]


def _written(run: Run) -> Rows:
    changes = ", with uncommitted changes" if run.git and run.git.dirty else ""
    return _known(
        *(_hardware(run.machine) if run.machine else ()),
        ("git commit", f"{run.git.commit}{changes}" if run.git else None),
        ("written", run.created and run.created.replace("T", " ").replace("+00:00", " UTC")),
    )
