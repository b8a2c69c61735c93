"""What `comparison.json` holds, as types; its JSON schema is generated from them.

    python -m keras_ae.comparison.records

writes `comparison.schema.json` beside this module. In JSON no number is NaN: what is not defined is
null. Fields are written in the order in which they stand here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from keras_ae.contract import SPLITS
from keras_ae.errors import DataError
from keras_ae.presets import Preset

SCHEMA: Final = Path(__file__).with_name("comparison.schema.json")
VERSION: Final = 1
"""Of `comparison.json`; it changes when a program that read the one before would go wrong."""

T = TypeVar("T")


class Record(BaseModel):
    """A part of `comparison.json`: frozen, without unknown fields, without NaN."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_alias=True,
        # `from` is a keyword of Python: it is called `from_` there.
        validate_by_name=True,
        # Who only asks for help does not wait for fifty validators.
        defer_build=True,
    )

    def to_json(self) -> str:
        """The record as text. What was left out when it was made is left out, too."""
        # Python's encoder writes floats as they were always written; Pydantic's does not.
        values = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return json.dumps(values, indent=1, allow_nan=False)


Epochs = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Deviation = Annotated[float, Field(ge=0)]
Interval = Annotated[
    tuple[float, float] | None,
    Field(
        description="Two ends of the interval at `level`, or null where there are fewer than 8 "
        "images."
    ),
]


CodecKey = Literal["model", "model_8bit", "patch_pca", "jpeg", "webp"]
NoteKind = Literal[
    "few_images",
    "no_difference",
    "overfitting",
    "falls",
    "longer",
    "slice",
    "worst_decile",
    "skipped",
    "wilcoxon",
    "seeds",
    "sampled",
]
Pays = Literal["yes", "no", "unclear"]
CheckName = Literal["gain_over_floor", "mean_psnr", "slice_psnr"]


class BySplit(Record, Generic[T]):
    """A value for each split of the images."""

    train: T = Field(description="Of the training images.")
    val: T = Field(description="Of the images on which budgets are chosen.")
    test: T = Field(description="Of the images on which the result is reported.")

    def __getitem__(self, split: str) -> T:
        value: T = getattr(self, split)
        return value

    def items(self) -> Iterator[tuple[str, T]]:
        """Yields splits and their values."""
        return ((split, self[split]) for split in SPLITS)


class Counts(BySplit[Count]):
    """Numbers of images."""


class Reasons(BySplit[str | None]):
    """Why there are no intervals, or null where there are."""


class Step(Record):
    """Two budgets, in epochs."""

    from_: Epochs = Field(
        validation_alias="from", serialization_alias="from", description="Epochs before."
    )
    to: Epochs = Field(description="Epochs after.")


class Estimate(Record):
    """A mean over images."""

    mean: float | None = Field(description="Null where no image has a value.")
    interval: Interval

    @property
    def value(self) -> float:
        """The mean, where one is needed; raises DataError if there is none."""
        if self.mean is None:
            raise DataError("a mean over no image is not defined")
        return self.mean


class Paired(Estimate):
    """Mean over images of an image's own difference; `images` have a value at both budgets."""

    wilcoxon_p: float | None = Field(
        ge=0,
        le=1,
        description="Two-sided p-value of Wilcoxon's signed-rank test, or null where there are "
        "fewer than 8 images.",
    )
    images: Count = Field(description="Images that have both values.")


class Metric(Estimate):
    """A metric over images."""

    median: float | None = Field(description="Null where no image has a value.")
    worst_decile: float | None = Field(description="Mean over the worst tenth of the images.")
    skipped: Count = Field(description="Images where the metric is not defined.")


class Summary(Record):
    """The quality of a budget's model on a split."""

    images: Count = Field(description="Source images of the split.")
    mse: Metric = Field(description="Mean squared error of pixels scaled to 0..1.")
    psnr: Metric = Field(description="PSNR in dB, 0 to 100.")
    ssim: Metric = Field(description="SSIM, up to 1.")
    ms_ssim: Metric = Field(description="MS-SSIM, up to 1.")
    gain_over_floor: Estimate = Field(description="PSNR minus that of the patch PCA, dB.")


class Summaries(BySplit[Summary]):
    """The quality of a budget's model."""


class Difference(Record):
    """What images gain from one model to another."""

    psnr: Paired = Field(description="dB of PSNR.")
    ssim: Paired = Field(description="SSIM.")


class Differences(BySplit[Difference]):
    """What images of each split gain from one budget to another."""


class Note(Record):
    """What a reader has to know beside the sentence."""

    kind: NoteKind = Field(description="What the note is about.")
    text: str = Field(description="A sentence.")


class Answer(Record):
    """How many epochs it is worth."""

    sentence: str = Field(description="The answer with its numbers.")
    notes: tuple[Note, ...] = Field(description="What to know beside it.")


class Chosen(Record):
    """The model that is worth it: chosen on val, claimed on test."""

    epochs: Epochs = Field(description="The chosen budget.")
    reason: str = Field(description="A sentence without its full stop.")
    seed: Count = Field(description="Of the best model on val at that budget.")
    test: Summary = Field(description="The quality of the chosen budget on test.")


class SeedMeans(Record):
    """Mean PSNR of one seed's model, dB."""

    seed: Count = Field(description="Of its weights and tiles.")
    val: float | None = Field(description="On val, dB.")
    test: float | None = Field(description="On test, dB.")


class Budget(Record):
    """A budget and what its models reach."""

    epochs: Epochs = Field(description="Of training from the initial state.")
    stage_seconds: Seconds = Field(description="Of training from the budget before; mean of seeds.")
    total_seconds: Seconds = Field(description="Of training from the initial state; mean of seeds.")
    splits: Summaries = Field(description="Means over the seeds.")
    seeds: tuple[SeedMeans, ...] = Field(description="Mean PSNR of each seed's model.")


class FloorMean(Record):
    """A floor on one split."""

    mean: float | None = Field(description="Mean PSNR, dB.")
    gain_over_floor: float | None = Field(
        description="Mean PSNR minus that of the patch PCA, over the images that have both, dB."
    )
    images: Count = Field(description="Images that have a value.")
    skipped: Count = Field(description="Images that have none.")


class FloorMeans(BySplit[FloorMean]):
    """A floor on each split."""


class Floor(Record):
    """PSNR in dB. `splits` is null where the floor is not defined; `reason` says why."""

    splits: FloorMeans | None = Field(description="Null where the floor is not defined.")
    reason: str | None = Field(description="Why it is not defined, or null.")


class Floors(Record):
    """What linear autoencoders of the same latent size reach."""

    patch_pca: Floor = Field(description="PCA of patches: the floor that a model has to beat.")
    global_pca: Floor = Field(description="PCA of whole images, where they are of one small size.")


class Change(Step):
    """What images gain between consecutive budgets."""

    splits: Differences = Field(description="Later budget minus earlier one.")


class AgainstChosen(Record):
    """The chosen budget minus another one."""

    epochs: Epochs = Field(description="The other budget.")
    splits: Differences = Field(description="Chosen budget minus the other one.")


class BudgetGap(Record):
    """The gap to training at a budget."""

    epochs: Epochs = Field(description="The budget.")
    gap: Estimate = Field(description="Gain over the floor on train minus that on val, dB.")


class Growth(Step):
    """How the gap to training grows from the smallest budget to the largest."""

    mean: float | None = Field(description="dB.")
    interval: Interval


class Gap(Record):
    """Gain over the floor on train minus that on val, dB."""

    budgets: tuple[BudgetGap, ...] = Field(description="By budget.")
    growth: Growth | None = Field(description="Null for a single budget.")
    overfitting: bool = Field(description="Whether the gap grows by more than the tolerance.")
    text: str = Field(description="The same as a sentence.")


class StepCost(Step):
    """What a step costs, and what it gains in mean val PSNR."""

    seconds: float = Field(description="Of training.")
    doublings: float = Field(description="Of the number of epochs.")
    gain: Estimate = Field(description="dB.")
    per_doubling: Estimate = Field(description="dB for each doubling of the epochs.")
    per_second: Estimate = Field(description="dB for each second of training.")


class Within(Record):
    """The smallest budget within a tolerance of the best on val."""

    tolerance: float = Field(ge=0, description="dB of mean val PSNR.")
    epochs: Epochs = Field(description="The budget.")
    seconds: Seconds = Field(description="Of training from the initial state.")


class Cost(Record):
    """Gains of mean val PSNR, dB."""

    steps: tuple[StepCost, ...] = Field(description="Between consecutive budgets.")
    within: tuple[Within, ...] = Field(description="By tolerance.")


class ForetoldStep(Step):
    """The last step, foretold from the budgets before it."""

    foretold: float = Field(description="dB of mean val PSNR.")
    actual: float = Field(description="dB of mean val PSNR, as measured.")


class Extrapolation(Step):
    """Beyond what was measured: what a ladder of twice the length would add on val, dB."""

    gain: float | None = Field(description="dB; null for fewer than three budgets.")
    interval: Interval
    pays: Pays | None = Field(
        description="Whether a longer ladder would gain more than the tolerance."
    )
    check: ForetoldStep | None = Field(description="Null for fewer than four budgets.")
    text: str = Field(description="The same as a sentence.")


class Slice(Record):
    """A part of the images."""

    by: str = Field(description="What is sliced.")
    value: str = Field(description="The slice.")
    images: Count = Field(description="Images in it.")
    psnr: tuple[float | None, ...] = Field(description="Mean PSNR at each budget, dB.")
    ssim: tuple[float | None, ...] = Field(description="Mean SSIM at each budget.")
    gain_over_floor: float | None = Field(
        description="Mean PSNR minus that of the patch PCA at the chosen budget, dB."
    )
    change: Paired = Field(description="dB of PSNR from the smallest budget to the chosen one.")


class WorseSlice(Record):
    """A slice that loses from one budget to a later one, while all images together gain."""

    by: str = Field(description="What is sliced.")
    value: str = Field(description="The slice.")
    from_: Epochs = Field(
        validation_alias="from", serialization_alias="from", description="Epochs before."
    )
    to: Epochs = Field(description="Epochs after.")
    images: Count = Field(description="Images in it.")
    mean: float = Field(description="dB of PSNR that its images change by.")
    interval: Interval
    overall: float = Field(description="dB of PSNR that all images change by.")


class Slices(Record):
    """Budgets compared within each slice of the images of a split."""

    split: str = Field(description="The split that is sliced.")
    least: Count = Field(description="Images that a slice needs to be judged.")
    level: float = Field(gt=0, lt=1, description="Coverage of its intervals.")
    from_: Epochs = Field(
        validation_alias="from", serialization_alias="from", description="Epochs before a change."
    )
    to: Epochs = Field(description="Epochs after a change.")
    compared: Count = Field(description="Comparisons that p-values are adjusted for.")
    rows: tuple[Slice, ...] = Field(description="All slices that are listed.")
    worse: tuple[WorseSlice, ...] = Field(description="Slices that became worse.")
    text: str = Field(description="How many were judged, as a sentence.")


class Baseline(Record):
    """The plain preset trained beside; `difference` is model minus baseline at the chosen budget
    on test."""

    preset: str = Field(description="Its name.")
    parameters: Count = Field(description="Trainable and other numbers of its model.")
    budgets: tuple[Budget, ...] = Field(description="As those of the model, without seeds.")
    difference: Difference = Field(description="Model minus baseline, on test.")


class Variance(Record):
    """Where PSNR varies: standard deviations and intervals of the mean, dB."""

    mean: float | None = Field(description="Over images and seeds.")
    image_sd: Deviation | None = Field(description="Between images.")
    seed_sd: Deviation | None = Field(description="Between seeds.")
    rest_sd: Deviation | None = Field(description="What is left.")
    images_interval: Interval = Field(description="As if there were no other seeds.")
    interval: Interval = Field(description="Over other images and other seeds.")


class Variances(BySplit[Variance]):
    """Where PSNR varies on each split."""


class SeedChange(Step):
    """What images gain between consecutive budgets, over seeds."""

    splits: Variances = Field(description="dB of PSNR, later budget minus earlier one.")


class Seeds(Record):
    """At the chosen budget: standard deviations in dB of PSNR between seeds, between images, and
    what is left; the interval over images alone and over both."""

    seeds: tuple[Count, ...] = Field(description="Of the ladders.")
    splits: Variances = Field(description="At the chosen budget.")
    differences: tuple[SeedChange, ...] = Field(description="Between consecutive budgets.")
    text: str = Field(description="The same as a sentence.")


class Losses(Record):
    """Training losses of one ladder, at some of its epochs."""

    ladder: str = Field(description="`model` or `baseline`.")
    seed: Count = Field(description="Of the ladder.")
    epochs: tuple[Epochs, ...] = Field(description="Evenly over their logarithm.")
    loss: tuple[float, ...] = Field(description="Mean loss of each of these epochs.")


class Images(Record):
    """`images.jsonl` beside this file has all; statistics other than means are over those that
    were kept."""

    file: str = Field(description="Name of the file with the scores of each image.")
    kept: Counts = Field(description="Images whose scores were kept one by one.")
    of: Counts = Field(description="All images.")


class Codec(Record):
    """The model or a codec at the same bytes."""

    key: CodecKey = Field(description="Which it is.")
    name: str = Field(description="What it is called in reports.")
    images: Count = Field(description="Images that it can store in so few bytes.")
    skipped: Count = Field(description="Images that it cannot.")
    psnr: Estimate = Field(description="dB.")
    ssim: Estimate = Field(description="Up to 1.")
    against_model: Paired = Field(
        description="dB of PSNR, row minus model, over the images that both have."
    )


class Codecs(Record):
    """At the same bytes as the latent stored in 8 bits. `against_model` is dB of PSNR, row minus
    model, over the images that both have."""

    split: str = Field(description="Of the images.")
    images: Count = Field(description="Images that were stored.")
    bits_per_pixel: float | None = Field(ge=0, description="Over all these images.")
    bytes: float | None = Field(ge=0, description="Mean of an image's latent.")
    rows: tuple[Codec, ...] = Field(description="The model first.")
    text: str = Field(description="What was compared, as a sentence.")


class Tuning(Record):
    """The search before the ladder."""

    trials: Count = Field(description="Trials that were asked for.")
    epochs: Epochs = Field(description="Of each trial.")
    parameters: Count = Field(description="Most trainable parameters of a trial's model.")
    preset: str = Field(description="Around which was searched.")
    batch_size: Count = Field(description="Around which was searched, tiles.")
    failed: Count = Field(description="Trials that did not train.")


class Trial(Record):
    """A trial of the search; the best comes first."""

    trial: Count = Field(description="Its number, from 1.")
    width: Count = Field(description="Channels of the residual path.")
    blocks: tuple[Count, Count] = Field(description="Residual blocks of encoder and decoder.")
    learning_rate: float = Field(gt=0, description="Adam's, after the warm-up.")
    batch_size: Count = Field(description="Largest number of tiles in a step.")
    parameters: Count = Field(description="Trainable parameters.")
    untuned: bool = Field(description="Whether these are the preset's own values.")
    val_psnr: float = Field(description="dB.")
    taken: bool = Field(description="Whether the ladder was trained with it.")


class Machine(Record):
    """A machine, as far as numbers depend on it."""

    platform: str = Field(description="Operating system and its version.")
    processor: str = Field(description="Its name.")
    cpu_flags: tuple[str, ...] = Field(description="By which libraries choose their kernels.")
    cores: Count = Field(description="That the process may use.")
    memory_bytes: Count = Field(description="That the process may use.")
    accelerators: tuple[str, ...] = Field(description="Names of the GPUs.")


class ThreadSettings(Record):
    """Settings of TensorFlow."""

    intra_op_threads: Count = Field(description="Within an operation; 0 for one per core.")
    inter_op_threads: Count = Field(description="Between operations; 0 for one per core.")
    deterministic_ops: bool = Field(description="Whether operations were asked to be.")


class TrainedOn(Record):
    """What the training of stages depended on beside data, code and flags."""

    stages: tuple[str, ...] = Field(description="Names of the stages.")
    machine: Machine = Field(description="That trained them.")
    packages: Annotated[
        dict[str, str], Field(json_schema_extra={"required": ["keras", "numpy", "python"]})
    ] = Field(description="Versions of packages, and of Python, by name.")
    backend: str = Field(description="Of Keras.")
    environment: dict[str, str] = Field(description="Variables that libraries read.")
    settings: ThreadSettings = Field(description="Of TensorFlow.")


class RunImages(Counts):
    """Images of a run."""

    quarantined: Count = Field(description="Images that were left out, as they cannot be read.")


class Quarantined(Record):
    """An image that was left out."""

    source: str = Field(description="Its path or key.")
    reason: str = Field(description="Why.")


class Commit(Record):
    """The git commit of the code."""

    commit: str = Field(description="Its hash.")
    dirty: bool = Field(description="Whether tracked files differ from it.")


class Artifact(Record):
    """An artifact in ML Metadata."""

    id: int = Field(description="In ML Metadata.")
    type: str = Field(description="Of the artifact.")
    node: str | None = Field(description="That wrote it; null for one from outside the pipeline.")
    name: str = Field(description="Of the input of the report that it is.")
    uri: str = Field(description="Relative to the pipeline's root where it lies below it.")


class Run(Record):
    """What is known of a run; any part may be missing."""

    data: str | None = Field(default=None, description="Where the images came from.")
    images: RunImages | None = Field(default=None, description="How many there are.")
    quarantined: tuple[Quarantined, ...] | None = Field(
        default=None, description="The first hundred of them."
    )
    preset: str | None = Field(default=None, description="Name of the preset.")
    preset_settings: Preset | None = Field(
        default=None, description="How its model is built and trained."
    )
    parameters: Count | None = Field(
        default=None, description="Trainable and other numbers of the model."
    )
    flops_per_pixel: float | None = Field(default=None, description="Of a reconstruction.")
    channels: Count | None = Field(default=None, description="1 for grey, 3 for RGB.")
    stride: Count | None = Field(
        default=None, description="Pixels of a side for each latent position."
    )
    latent_channels: Count | None = Field(
        default=None, description="Values at each latent position."
    )
    tile: Count | None = Field(default=None, description="Side of a training tile, pixels.")
    tiles_per_epoch: Count | None = Field(default=None, description="Tiles that an epoch shows.")
    tiles_per_second: float | None = Field(default=None, ge=0, description="In the last stage.")
    decoded_bytes: Count | None = Field(default=None, description="Of all training images.")
    placement: str | None = Field(default=None, description="Where the training images are kept.")
    seed: Count | None = Field(default=None, description="Of the first ladder.")
    batch_size: Count | None = Field(default=None, description="Largest number of tiles in a step.")
    backend: str | None = Field(default=None, description="Of Keras.")
    code_fingerprint: str | None = Field(default=None, description="Digest of the training code.")
    trained_on: Annotated[tuple[TrainedOn, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="One entry for each machine, set of packages and settings that stages were "
        "trained with.",
    )
    seeds: tuple[Count, ...] | None = Field(default=None, description="Of all ladders.")
    packages: dict[str, str] | None = Field(
        default=None, description="Versions of the packages that wrote the report, by name."
    )
    machine: Machine | None = Field(default=None, description="That wrote the report.")
    git: Commit | None = Field(default=None, description="Null outside a checkout.")
    command: str | None = Field(default=None, description="Command line that reproduces the run.")
    data_fingerprint: str | None = Field(default=None, description="Digest of the data's content.")
    created: str | None = Field(
        default=None, description="When the report was written: ISO 8601, UTC."
    )
    lineage: tuple[Artifact, ...] | None = Field(
        default=None, description="What the report is made of."
    )


class Check(Record):
    """A demand on a model."""

    name: CheckName = Field(description="Of what.")
    slice: str | None = Field(description="Such as `brightness: 1 darkest`; null for all images.")
    images: Count = Field(description="Test images that it is about.")
    value: float | None = Field(description="dB; null where no model is in service.")
    limit: float = Field(
        description="dB that the value may not fall below; a gain must lie above it."
    )
    ok: bool | None = Field(description="Whether it was met; null where there is no value.")
    text: str = Field(description="The same as a sentence.")


class SliceVerdict(Record):
    """A slice of the test images, at the model that was evaluated."""

    by: str = Field(description="What is sliced.")
    value: str = Field(description="The slice.")
    images: Count = Field(description="Images in it.")
    psnr: float | None = Field(description="Mean PSNR, dB.")
    ssim: float | None = Field(description="Mean SSIM.")
    gain: float | None = Field(description="Mean PSNR minus that of the floor, dB.")
    change: float | None = Field(description="dB of PSNR against the model in service.")


class Served(Record):
    """Whether a server answers as the model was trained."""

    ok: bool = Field(description="Whether it does.")
    text: str = Field(description="The same as a sentence.")


class Verdict(Record):
    """Whether the chosen model may be pushed."""

    blessed: bool = Field(description="Whether all demands were met.")
    checks: tuple[Check, ...] = Field(description="The demands.")
    not_judged: tuple[str, ...] = Field(
        description="A sentence on each slice that is too small to have a say, where a model is in "
        "service."
    )
    slices: tuple[SliceVerdict, ...] = Field(description="All slices of the test images.")
    skipped_ssim: Count = Field(description="Test images that are too small for an SSIM.")
    served: Served | None = Field(
        default=None, description="Missing for a model that is not blessed."
    )


class Comparison(Record):
    """PSNR and gains in dB, SSIM up to 1, MSE of pixels scaled to 0..1. The unit of every
    statistic is the source image."""

    model_config = ConfigDict(title="comparison.json of keras-ae")

    version: Literal[1] = Field(
        description="It changes when a program that read the one before would go wrong."
    )
    answer: Answer
    level: float = Field(
        gt=0, lt=1, description="Coverage that intervals are made for, such as 0.95."
    )
    tolerance: float = Field(
        ge=0, description="dB of val PSNR within which a smaller budget is as good."
    )
    chosen: Chosen
    budgets: tuple[Budget, ...] = Field(min_length=1, description="In rising order of epochs.")
    floors: Floors
    differences: tuple[Change, ...] = Field(description="Between consecutive budgets.")
    against_chosen: tuple[AgainstChosen, ...] = Field(
        description="Chosen budget minus each other one."
    )
    gap: Gap
    cost: Cost
    extrapolation: Extrapolation
    slices: Slices
    intervals: Reasons
    baseline: Baseline | None = Field(description="Null where none was trained beside.")
    seeds: Seeds | None = Field(description="Null for a single seed.")
    losses: tuple[Losses, ...] = Field(description="Of every ladder and seed.")
    images: Images
    codecs: Codecs | None = Field(description="Null until it was measured.")
    tuning: Tuning | None = Field(description="Null where nothing was tuned.")
    run: Run | None = Field(description="Null until the report is written.")
    verdict: Verdict | None = Field(description="Null until the report is written.")
    trials: tuple[Trial, ...] = Field(description="Of the search; the best first.")

    @property
    def chosen_budget(self) -> Budget:
        """The entry of the chosen budget."""
        return next(entry for entry in self.budgets if entry.epochs == self.chosen.epochs)


class CurvePoint(Record):
    """Mean test PSNR of a budget."""

    epochs: Epochs = Field(description="The budget.")
    mean: float | None = Field(description="dB.")
    interval: Interval


class RunRow(Record):
    """A run at its chosen budget, beside others."""

    name: str = Field(description="Its own among the runs.")
    preset: str | None = Field(description="Null where it is not known.")
    parameters: Count | None = Field(description="Of its model; null where they are not known.")
    data: str | None = Field(description="Where its images came from; null where not known.")
    seeds: tuple[Count, ...] = Field(description="Of its ladders.")
    epochs: Epochs = Field(description="The chosen budget.")
    seconds: Seconds = Field(description="Of training.")
    test: Summary = Field(description="Its quality on test.")
    curve: tuple[CurvePoint, ...] = Field(description="By budget.")
    floor: float | None = Field(description="Mean PSNR of the patch PCA on test, dB.")


class RunPair(Record):
    """What the images of a run gain over the first run's, over the test images of both."""

    run: str = Field(description="Name of the run.")
    against: str = Field(description="Name of the first run.")
    psnr: Paired = Field(description="dB.")
    ssim: Paired = Field(description="Up to 1.")
    text: str = Field(description="Over which images, or why over none.")


class Runs(Record):
    """Several runs side by side; the first is what others are held against."""

    runs: tuple[RunRow, ...] = Field(description="In the order in which they were given.")
    pairs: tuple[RunPair, ...] = Field(description="Each later run with the first.")


def read(file: Path) -> Comparison:
    """Reads a `comparison.json`.

    Raises:
        DataError: if it is not JSON, of another version, or a field is not as it must be.
        OSError: if it cannot be read.
    """
    try:
        return Comparison.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise DataError(_reason(file, error)) from error


def _reason(file: Path, error: ValidationError) -> str:
    errors = error.errors(include_url=False)
    first = errors[0]
    if first["type"] == "json_invalid":
        return f"{file} is not JSON: {first['ctx']['error']}"
    for entry in errors:
        if entry["loc"] in ((), ("version",)):
            known = entry["type"] == "literal_error"
            return (
                f"{file} is of version {entry['input'] if known else None}; expected {VERSION}: "
                "run the pipeline again, which trains nothing anew"
            )
    field = ".".join(map(str, first["loc"]))
    expected = {
        "missing": "expected the field, which is missing",
        "extra_forbidden": f"expected no such field in version {VERSION}",
    }
    reason = expected.get(first["type"]) or (
        f"{first['msg'].replace('Input should be', 'expected', 1)}; got {first['input']!r:.80}"
    )
    return f"{file} is not a comparison: {field}: {reason}"


class _Schema(GenerateJsonSchema):
    """Without a title for each field, which would only repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema() -> str:
    """The JSON schema of `comparison.json`, as text."""
    generated = Comparison.model_json_schema(schema_generator=_Schema)
    for definition in generated["$defs"].values():
        # Examples in docstrings are Python's, not the file's.
        definition["description"] = definition["description"].partition("\n\n>>>")[0]
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps({**dialect, **generated}, indent=1) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema())
