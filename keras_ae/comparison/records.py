"""The types of `comparison.json`, from which its JSON schema is generated.

    python -m keras_ae.comparison.records

writes `comparison.schema.json` next to this module. The file contains no NaN: a value that is not
defined is null. Fields are written in the order in which they are declared here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from keras_ae.contract import SPLITS
from keras_ae.errors import DataError
from keras_ae.presets import Preset
from keras_ae.stages import Count, Environment, Machine, Record

SCHEMA: Final = Path(__file__).with_name("comparison.schema.json")
VERSION: Final = 1
"""Version of `comparison.json`; it changes when programs that read the file would break."""

T = TypeVar("T")


Epochs = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]
Deviation = Annotated[float, Field(ge=0)]
Interval = Annotated[
    tuple[float, float] | None,
    Field(description="Ends of the interval at confidence `level`; null for fewer than 8 images."),
]


CodecKey = Literal["model", "model_8bit", "patch_pca", "jpeg", "webp"]
NoteKind = Literal[
    "few_images",
    "copies",
    "in_train",
    "lossless",
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
    "data",
]
Pays = Literal["yes", "no", "unclear"]
CheckName = Literal["gain_over_floor", "mean_psnr", "slice_psnr"]


class BySplit(Record, Generic[T]):
    """A value for each split of the images."""

    train: T = Field(description="On the training images.")
    val: T = Field(description="On the validation images, on which budgets are chosen.")
    test: T = Field(description="On the test images, on which the result is reported.")

    def __getitem__(self, split: str) -> T:
        value: T = getattr(self, split)
        return value

    def items(self) -> Iterator[tuple[str, T]]:
        """The splits and their values."""
        return ((split, self[split]) for split in SPLITS)


class Counts(BySplit[Count]):
    """Numbers of images."""


class Reasons(BySplit[str | None]):
    """Why a split has no intervals, or null where it has."""


class Step(Record):
    """Two budgets that are compared."""

    from_: Epochs = Field(description="Epochs of the smaller budget.")
    to: Epochs = Field(description="Epochs of the larger budget.")


class Estimate(Record):
    """A mean over images."""

    mean: float | None = Field(description="The mean; null if no image has a value.")
    interval: Interval

    @property
    def value(self) -> float:
        """The mean; raises DataError if there is none."""
        if self.mean is None:
            raise DataError("the mean over zero images is not defined")
        return self.mean

    def scaled(self, factor: float) -> "Estimate":
        """The estimate of the values times a factor."""
        ends = self.interval and (self.interval[0] * factor, self.interval[1] * factor)
        return Estimate(mean=self.value * factor, interval=ends and (min(ends), max(ends)))

    def format(self, sign: str = "", unit: str = " dB") -> str:
        """The mean with its interval, such as "28.10 dB (27.52 to 28.68)"."""
        return f"{self.value:{sign}.2f}{unit}{format_interval(self.interval, sign)}"


def format_interval(ends: tuple[float, float] | None, sign: str = "") -> str:
    """The interval in parentheses after a space, or nothing where there is none."""
    return f" ({ends[0]:{sign}.2f} to {ends[1]:{sign}.2f})" if ends else ""


class Paired(Estimate):
    """The mean over images of the difference of two values of the same image."""

    wilcoxon_p: float | None = Field(
        ge=0,
        le=1,
        description="Two-sided p-value of Wilcoxon's signed-rank test; null for fewer than "
        "8 images.",
    )
    images: Count = Field(description="Number of images that have both values.")


class Metric(Estimate):
    """A metric over images."""

    median: float | None = Field(description="The median; null if no image has a value.")
    worst_decile: float | None = Field(description="Mean over the worst tenth of the images.")
    skipped: Count = Field(description="Number of images for which the metric is not defined.")


class Summary(Record):
    """The quality of one budget's model on one split."""

    images: Count = Field(description="Number of source images of the split.")
    mse: Metric = Field(description="Mean squared error of pixels scaled to 0..1.")
    psnr: Metric = Field(description="PSNR in dB, 0 to 100.")
    ssim: Metric = Field(description="SSIM, up to 1.")
    ms_ssim: Metric = Field(description="MS-SSIM, up to 1.")
    gain_over_floor: Estimate = Field(description="PSNR minus that of patch PCA, in dB.")


class Difference(Record):
    """The change of quality from one model to another."""

    psnr: Paired = Field(description="Change of PSNR in dB.")
    ssim: Paired = Field(description="Change of SSIM.")


class Note(Record):
    """A remark that a reader of the answer needs to know."""

    kind: NoteKind = Field(description="Topic of the note.")
    text: str = Field(description="The note as text.")


class Answer(Record):
    """How many epochs are worth training."""

    sentence: str = Field(description="The answer with its numbers.")
    notes: tuple[Note, ...] = Field(description="Remarks on the answer.")


class Chosen(Record):
    """The chosen budget: chosen on val, reported on test."""

    epochs: Epochs = Field(description="Epochs of the chosen budget.")
    reason: str = Field(description="Why it was chosen, as a sentence without its full stop.")
    seed: Count = Field(description="Seed of the best model on val at this budget.")
    test: Summary = Field(description="The quality of the chosen budget on test.")


class SeedMeans(Record):
    """The mean PSNR of one seed's model."""

    seed: Count = Field(description="Seed of the initial weights and of the tiles.")
    val: float | None = Field(description="Mean PSNR on val, in dB.")
    test: float | None = Field(description="Mean PSNR on test, in dB.")


class Budget(Record):
    """One budget and the quality of its models."""

    epochs: Epochs = Field(description="Epochs of training from the initial state.")
    stage_seconds: Seconds = Field(description="Seconds from the previous budget, mean over seeds.")
    total_seconds: Seconds = Field(description="Seconds from the initial state, mean over seeds.")
    splits: BySplit[Summary] = Field(description="Quality on each split, mean over seeds.")
    seeds: tuple[SeedMeans, ...] = Field(description="Mean PSNR of each seed's model.")


class FloorMean(Record):
    """The PSNR of a floor on one split."""

    mean: float | None = Field(description="Mean PSNR in dB.")
    gain_over_floor: float | None = Field(
        description="Mean PSNR minus that of patch PCA over the images that have both, in dB."
    )
    images: Count = Field(description="Number of images that have a value.")
    skipped: Count = Field(description="Number of images that have no value.")


class Floor(Record):
    """The PSNR of a linear autoencoder."""

    splits: BySplit[FloorMean] | None = Field(description="PSNR; null if the floor is not defined.")
    reason: str | None = Field(description="Why the floor is not defined, or null.")


class Floors(Record):
    """The PSNR of linear autoencoders with the same latent size."""

    patch_pca: Floor = Field(description="PCA of patches: the floor that a model must exceed.")
    global_pca: Floor = Field(description="PCA of whole images, if all have one small size.")


class Change(Step):
    """The change of quality between consecutive budgets."""

    splits: BySplit[Difference] = Field(description="Larger budget minus smaller one.")


class AgainstChosen(Record):
    """The change of quality from another budget to the chosen one."""

    epochs: Epochs = Field(description="The other budget.")
    splits: BySplit[Difference] = Field(description="Chosen budget minus the other one.")


class BudgetGap(Record):
    """The generalization gap at one budget."""

    epochs: Epochs = Field(description="Epochs of the budget.")
    gap: Estimate = Field(description="Gain over the floor on train minus that on val, in dB.")


class GapGrowth(Estimate, Step):
    """The growth of the generalization gap from the smallest budget to the largest, in dB."""


class Gap(Record):
    """The generalization gap: the gain over the floor on train minus that on val, in dB."""

    budgets: tuple[BudgetGap, ...] = Field(description="One entry per budget.")
    growth: GapGrowth | None = Field(description="Growth of the gap; null for a single budget.")
    overfitting: bool = Field(description="Whether the gap grows by more than the tolerance.")
    text: str = Field(description="The same in words.")


class StepCost(Step):
    """The cost of a step, and its gain in mean val PSNR."""

    seconds: float = Field(description="Seconds of training.")
    doublings: float = Field(description="Number of times that the step doubles the epochs.")
    gain: Estimate = Field(description="Gain in dB.")
    per_doubling: Estimate = Field(description="Gain per doubling of the epochs, in dB.")
    per_second: Estimate = Field(description="Gain per second of training, in dB.")


class CheapestBudget(Record):
    """The smallest budget within a tolerance of the best on val."""

    tolerance: float = Field(ge=0, description="Tolerance in dB of mean val PSNR.")
    epochs: Epochs = Field(description="Epochs of the budget.")
    seconds: Seconds = Field(description="Seconds from the initial state, mean over seeds.")


class Cost(Record):
    """The gain in mean val PSNR for the training time."""

    steps: tuple[StepCost, ...] = Field(description="One per pair of consecutive budgets.")
    within: tuple[CheapestBudget, ...] = Field(description="One entry per tolerance.")


class StepPrediction(Step):
    """The gain of the last step, predicted from the budgets before it."""

    foretold: float = Field(description="Predicted gain in mean val PSNR, in dB.")
    actual: float = Field(description="Measured gain in mean val PSNR, in dB.")


class Extrapolation(Step):
    """The gain in mean val PSNR that is extrapolated for a ladder of twice the length."""

    gain: float | None = Field(description="Gain in dB; null for fewer than three budgets.")
    interval: Interval
    pays: Pays | None = Field(
        description="Whether a longer ladder would gain more than the tolerance; null for fewer "
        "than three budgets."
    )
    check: StepPrediction | None = Field(description="A check; null for fewer than four budgets.")
    text: str = Field(description="The same in words.")


class Slice(Record):
    """A slice of the test images."""

    by: str = Field(description="Attribute of the images, such as `label`.")
    value: str = Field(description="Value of the attribute in this slice.")
    images: Count = Field(description="Number of images in the slice.")
    psnr: tuple[float | None, ...] = Field(description="Mean PSNR at each budget, in dB.")
    ssim: tuple[float | None, ...] = Field(description="Mean SSIM at each budget.")
    gain_over_floor: float | None = Field(
        description="Mean PSNR minus that of patch PCA at the chosen budget, in dB."
    )
    change: Paired = Field(description="Change of PSNR in dB from smallest to chosen budget.")


class WorseSlice(Record):
    """A slice that loses PSNR from one budget to a later one, while all images together gain."""

    by: str = Field(description="Attribute of the images, such as `label`.")
    value: str = Field(description="Value of the attribute in this slice.")
    from_: Epochs = Field(description="Epochs of the smaller budget.")
    to: Epochs = Field(description="Epochs of the larger budget.")
    images: Count = Field(description="Number of images in the slice.")
    mean: float = Field(description="Mean change of PSNR of its images, in dB.")
    interval: Interval
    overall: float = Field(description="Mean change of PSNR of all images, in dB.")


class Slices(Record):
    """The budgets compared within each slice of a split's images."""

    split: str = Field(description="Name of the split.")
    least: Count = Field(description="Number of images that a slice needs to be tested.")
    level: float = Field(gt=0, lt=1, description="Confidence level of the intervals, such as 0.95.")
    from_: Epochs = Field(description="Smaller budget of `change`, in epochs.")
    to: Epochs = Field(description="Larger budget of `change`, in epochs.")
    compared: Count = Field(description="Number of comparisons for which p-values are adjusted.")
    rows: tuple[Slice, ...] = Field(description="The listed slices.")
    worse: tuple[WorseSlice, ...] = Field(description="Slices that lose PSNR.")
    text: str = Field(description="How many slices were tested, in words.")


class Baseline(Record):
    """A plain network that was trained on the same ladder."""

    preset: str = Field(description="Name of its preset.")
    parameters: Count = Field(description="Number of its parameters.")
    budgets: tuple[Budget, ...] = Field(description="Its budgets, without seeds.")
    difference: Difference = Field(description="Model minus baseline at the chosen budget on test.")


class Variance(Record):
    """The variance of PSNR: standard deviations, and intervals of the mean, in dB."""

    mean: float | None = Field(description="Mean over images and seeds.")
    image_sd: Deviation | None = Field(description="Standard deviation between images.")
    seed_sd: Deviation | None = Field(description="Standard deviation between seeds.")
    rest_sd: Deviation | None = Field(description="Residual standard deviation.")
    images_interval: Interval = Field(description="Interval over images, for these seeds.")
    interval: Interval = Field(description="Interval over images and seeds.")


class SeedChange(Step):
    """The change of PSNR between consecutive budgets, over seeds."""

    splits: BySplit[Variance] = Field(description="Larger budget minus smaller one, in dB of PSNR.")


class Seeds(Record):
    """The variance of PSNR between seeds and between images."""

    seeds: tuple[Count, ...] = Field(description="Seeds of the ladders.")
    splits: BySplit[Variance] = Field(description="Variance at the chosen budget.")
    differences: tuple[SeedChange, ...] = Field(description="One per pair of consecutive budgets.")
    text: str = Field(description="The same in words.")


class Losses(Record):
    """The training losses of one ladder at a selection of its epochs."""

    ladder: str = Field(description="`model` or `baseline`.")
    seed: Count = Field(description="Seed of the ladder.")
    epochs: tuple[Epochs, ...] = Field(description="Epochs, evenly spaced over their logarithm.")
    loss: tuple[float, ...] = Field(description="Mean loss of each of these epochs.")


class InTrain(Record):
    """Numbers of pictures that are in train too."""

    val: Count = Field(description="Of the validation pictures.")
    test: Count = Field(description="Of the test pictures.")


class Images(Record):
    """The file with the scores of every image, and the size of the samples for statistics.

    Means are over all images; other statistics are over the images that were kept. Copies of a
    picture are one image, its largest file."""

    file: str = Field(description="Name of the file with the scores of each image.")
    kept: Counts = Field(description="Number of images that were kept for statistics.")
    of: Counts = Field(description="Number of all images.")
    files: Counts | None = Field(
        default=None, description="Number of files; missing if no image has copies."
    )
    in_train: InTrain | None = Field(
        default=None,
        description="Numbers of val and test images that have copies in train; missing if none.",
    )


class Codec(Record):
    """The model, or a codec at the same number of bytes."""

    key: CodecKey = Field(description="Identifier of the row.")
    name: str = Field(description="Name in reports.")
    images: Count = Field(description="Number of images that it can store in so few bytes.")
    skipped: Count = Field(description="Number of images that it cannot store in so few bytes.")
    psnr: Estimate = Field(description="PSNR in dB.")
    ssim: Estimate = Field(description="SSIM, up to 1.")
    against_model: Paired = Field(
        description="PSNR minus that of the model over the images that both can store, in dB."
    )


class Codecs(Record):
    """The model compared with codecs at the byte size of its latent in 8 bits."""

    split: str = Field(description="Split of the images.")
    images: Count = Field(description="Number of images.")
    bits_per_pixel: float | None = Field(ge=0, description="Mean over all pixels of these images.")
    bytes: float | None = Field(ge=0, description="Mean size of a latent.")
    rows: tuple[Codec, ...] = Field(description="One row per codec; the model comes first.")
    text: str = Field(description="What was compared, in words.")


class Tuning(Record):
    """The hyperparameter search before the ladder."""

    trials: Count = Field(description="Number of requested trials.")
    epochs: Epochs = Field(description="Epochs of each trial.")
    parameters: Count = Field(description="Largest allowed number of trainable parameters.")
    preset: str = Field(description="Preset at the centre of the search space.")
    batch_size: Count = Field(description="Batch size at the centre of the search space, in tiles.")
    failed: Count = Field(description="Number of trials that failed.")


class Trial(Record):
    """One trial of the search."""

    trial: Count = Field(description="Number of the trial, from 1.")
    width: Count = Field(description="Channels of the residual path.")
    blocks: tuple[Count, Count] = Field(
        description="Number of residual blocks of the encoder and of the decoder."
    )
    learning_rate: float = Field(gt=0, description="Learning rate of Adam after the warm-up.")
    batch_size: Count = Field(description="Largest number of tiles in a training step.")
    parameters: Count = Field(description="Number of trainable parameters.")
    untuned: bool = Field(description="Whether the trial uses the preset unchanged.")
    val_psnr: float = Field(description="Mean val PSNR in dB.")
    taken: bool = Field(description="Whether the ladder was trained with these values.")


class TrainingEnvironment(Environment):
    """What the training of stages depended on in addition to data, code and flags."""

    stages: tuple[str, ...] = Field(description="Names of the stages.")


class RunImages(Counts):
    """The number of images of a run."""

    quarantined: Count = Field(description="Number of quarantined images.")
    copies: Count | None = Field(
        default=None, description="Number of files that are copies of others; missing if none are."
    )


class QuarantinedImage(Record):
    """An image that was quarantined."""

    source: str = Field(description="Path or key of the image.")
    reason: str = Field(description="Why it was quarantined.")


class Commit(Record):
    """The git commit of the code."""

    commit: str = Field(description="Hash of the commit.")
    dirty: bool = Field(description="Whether tracked files have uncommitted changes.")


class Artifact(Record):
    """An artifact in ML Metadata."""

    id: int = Field(description="Id in ML Metadata.")
    type: str = Field(description="Type of the artifact.")
    node: str | None = Field(description="Node that wrote it; null if from outside the pipeline.")
    name: str = Field(description="Name of the report's input.")
    uri: str = Field(description="Relative to the pipeline root if it is below it.")


class Run(Record):
    """Facts about a run; any of them may be missing."""

    data: str | None = Field(default=None, description="Where the images came from.")
    images: RunImages | None = Field(default=None, description="Number of images by split.")
    levels: str | None = Field(
        default=None, description="Range of the levels of 16-bit files; null if there are none."
    )
    splits: str | None = Field(
        default=None, description="How the images were divided into splits, in words."
    )
    not_read: dict[str, Count] | None = Field(
        default=None,
        description="Number of files that were not read, by kind: a suffix, or words such as "
        "'in no split folder'.",
    )
    quarantined: tuple[QuarantinedImage, ...] | None = Field(
        default=None, description="The first hundred quarantined images."
    )
    preset: str | None = Field(default=None, description="Name of the preset.")
    preset_settings: Preset | None = Field(default=None, description="Values of the preset.")
    parameters: Count | None = Field(default=None, description="Number of parameters of the model.")
    flops_per_pixel: float | None = Field(default=None, description="FLOPs of a reconstruction.")
    channels: Count | None = Field(default=None, description="1 for grey, 3 for RGB.")
    stride: Count | None = Field(default=None, description="Side of a latent position, in pixels.")
    latent_channels: Count | None = Field(default=None, description="Values per latent position.")
    latent: str | None = Field(
        default=None,
        description="Size of the latent in words: values per pixel, and share of the image's.",
    )
    tile: Count | None = Field(default=None, description="Side of a training tile in pixels.")
    tiles_per_epoch: Count | None = Field(default=None, description="Number of tiles in an epoch.")
    tiles_per_second: float | None = Field(
        default=None, ge=0, description="Training throughput in the last stage."
    )
    decoded_bytes: Count | None = Field(default=None, description="Size of the training images.")
    placement: str | None = Field(default=None, description="Where the training images were kept.")
    seed: Count | None = Field(default=None, description="Seed of the first ladder.")
    batch_size: Count | None = Field(
        default=None, description="Largest number of tiles in a training step."
    )
    backend: str | None = Field(default=None, description="Backend of Keras.")
    code_fingerprint: str | None = Field(default=None, description="Digest of the training code.")
    trained_on: Annotated[tuple[TrainingEnvironment, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="One entry for each machine, set of packages and settings that stages were "
        "trained with.",
    )
    seeds: tuple[Count, ...] | None = Field(default=None, description="Seeds of all ladders.")
    packages: dict[str, str] | None = Field(
        default=None, description="Versions of the packages that wrote the report, by name."
    )
    machine: Machine | None = Field(default=None, description="Machine that wrote the report.")
    git: Commit | None = Field(default=None, description="Of the code; null outside a checkout.")
    command: str | None = Field(default=None, description="Command line that reproduces the run.")
    data_fingerprint: str | None = Field(default=None, description="Digest of the data's content.")
    created: str | None = Field(default=None, description="Time of the report: ISO 8601, UTC.")
    lineage: tuple[Artifact, ...] | None = Field(
        default=None, description="Artifacts that the report was written from."
    )


class Check(Record):
    """A requirement on a model, and whether it is met."""

    name: CheckName = Field(description="Name of the metric.")
    slice: str | None = Field(description="Such as `brightness: 1 darkest`; null for all images.")
    images: Count = Field(description="Number of test images.")
    value: float | None = Field(
        description="Value in dB; null if it needs a model in service to compare with and there is "
        "none."
    )
    limit: float = Field(description="Lowest allowed value in dB; a gain must exceed it.")
    ok: bool | None = Field(description="Whether it is met; null if it does not apply.")
    text: str = Field(description="The same in words.")


class SliceVerdict(Record):
    """The evaluated model on a slice of the test images."""

    by: str = Field(description="Attribute of the images, such as `label`.")
    value: str = Field(description="Value of the attribute in this slice.")
    images: Count = Field(description="Number of images in the slice.")
    psnr: float | None = Field(description="Mean PSNR in dB.")
    ssim: float | None = Field(description="Mean SSIM.")
    gain: float | None = Field(description="Mean PSNR minus that of the floor, in dB.")
    change: float | None = Field(description="PSNR minus that of the model in service, in dB.")


class ServingResult(Record):
    """Whether served predictions match the trained model."""

    ok: bool = Field(description="Whether they match.")
    text: str = Field(description="The same in words.")


class Verdict(Record):
    """Whether the chosen model may be pushed."""

    blessed: bool = Field(description="Whether all requirements are met.")
    checks: tuple[Check, ...] = Field(description="The requirements.")
    not_judged: tuple[str, ...] = Field(
        description="A sentence on each slice that has too few images to be checked; empty if no "
        "model is in service."
    )
    slices: tuple[SliceVerdict, ...] = Field(description="The model on slices of the test images.")
    notes: tuple[str, ...] = Field(
        default=(), description="Cautions about the comparison with the model in service."
    )
    skipped_ssim: Count = Field(description="Number of test images that are too small for SSIM.")
    served: ServingResult | None = Field(
        default=None, description="Result of serving it; missing if the model is not blessed."
    )


class Comparison(Record):
    """The comparison of the budgets of a run: PSNR and gains in dB, SSIM up to 1, MSE of pixels
    scaled to 0..1. The unit of every statistic is the source image."""

    model_config = ConfigDict(title="comparison.json of keras-ae")

    version: Literal[1] = Field(description="It changes when programs that read the file break.")
    answer: Answer
    level: float = Field(gt=0, lt=1, description="Confidence level of the intervals, such as 0.95.")
    tolerance: float = Field(
        ge=0,
        description="Difference in val PSNR within which a smaller budget is preferred, in dB.",
    )
    chosen: Chosen
    budgets: tuple[Budget, ...] = Field(min_length=1, description="In ascending order of epochs.")
    floors: Floors
    differences: tuple[Change, ...] = Field(description="One per pair of consecutive budgets.")
    against_chosen: tuple[AgainstChosen, ...] = Field(description="One per other budget.")
    gap: Gap
    cost: Cost
    extrapolation: Extrapolation
    slices: Slices
    intervals: Reasons
    baseline: Baseline | None = Field(description="Null if no baseline was trained.")
    seeds: Seeds | None = Field(description="Variance between seeds; null for a single seed.")
    losses: tuple[Losses, ...] = Field(description="One entry per ladder and seed.")
    images: Images
    codecs: Codecs | None = Field(description="Null if codecs were not measured.")
    tuning: Tuning | None = Field(description="Null if nothing was tuned.")
    run: Run | None = Field(description="Null until the report is written.")
    verdict: Verdict | None = Field(description="Null until the report is written.")
    trials: tuple[Trial, ...] = Field(description="Trials of the search; the best comes first.")

    @property
    def chosen_budget(self) -> Budget:
        """The entry of the chosen budget."""
        return next(entry for entry in self.budgets if entry.epochs == self.chosen.epochs)


class CurvePoint(Record):
    """The mean test PSNR of one budget."""

    epochs: Epochs = Field(description="Epochs of the budget.")
    mean: float | None = Field(description="Mean PSNR in dB.")
    interval: Interval


class RunRow(Record):
    """One of several runs, at its chosen budget."""

    name: str = Field(description="Name of the run, unique among the runs.")
    preset: str | None = Field(description="Name of the preset; null if unknown.")
    parameters: Count | None = Field(description="Number of its parameters; null if unknown.")
    latent: str | None = Field(description="Size of its latent in words; null if unknown.")
    data: str | None = Field(description="Where its images came from; null if unknown.")
    seeds: tuple[Count, ...] = Field(description="Seeds of its ladders.")
    epochs: Epochs = Field(description="Epochs of the chosen budget.")
    seconds: Seconds = Field(description="Seconds of training.")
    test: Summary = Field(description="Quality on test.")
    curve: tuple[CurvePoint, ...] = Field(description="One entry per budget.")
    floor: float | None = Field(description="Mean PSNR of patch PCA on test, in dB.")


class RunPair(Record):
    """The change of quality from the first run to another, over the test images of both."""

    run: str = Field(description="Name of the run.")
    against: str = Field(description="Name of the first run.")
    psnr: Paired = Field(description="Change of PSNR in dB.")
    ssim: Paired = Field(description="Change of SSIM.")
    text: str = Field(description="Which images are paired, or why none are.")


class Runs(Record):
    """Several runs; the others are compared with the first."""

    runs: tuple[RunRow, ...] = Field(description="The runs in the given order.")
    pairs: tuple[RunPair, ...] = Field(description="One entry per run after the first.")


def read(file: str | Path) -> Comparison:
    """Reads a `comparison.json`.

    Raises:
        DataError: if it is not JSON, has another version, or a field is not valid.
        OSError: if it cannot be read.
    """
    try:
        return Comparison.model_validate_json(Path(file).read_bytes())
    except ValidationError as error:
        raise DataError(_reason(Path(file), error)) from error


def _reason(file: Path, error: ValidationError) -> str:
    errors = error.errors(include_url=False)
    first = errors[0]
    if first["type"] == "json_invalid":
        return f"{file} is not JSON: {first['ctx']['error']}"
    for entry in errors:
        if entry["loc"] in ((), ("version",)):
            version = entry["input"] if entry["type"] == "literal_error" else None
            advice = "run the pipeline again, which does not retrain cached stages"
            return f"{file} has version {version}; expected {VERSION}: {advice}"
    if first["type"] == "missing":
        reason = "expected the field, which is missing"
    elif first["type"] == "extra_forbidden":
        reason = f"expected no such field in version {VERSION}"
    else:
        expected = first["msg"].replace("Input should be", "expected", 1)
        reason = f"{expected}; got {first['input']!r:.80}"
    return f"{file} is not a valid comparison: {'.'.join(map(str, first['loc']))}: {reason}"


class _Schema(GenerateJsonSchema):
    """Generates schemas without field titles, which would only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema() -> str:
    """Generates the JSON schema of `comparison.json`, as text."""
    generated = Comparison.model_json_schema(schema_generator=_Schema)
    for definition in generated["$defs"].values():
        # Pydantic has no description of a generic type's variants. Examples do not belong there.
        description = definition.get("description", BySplit.__doc__)
        definition["description"] = description.partition("\n\n>>>")[0]
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps({**dialect, **generated}, indent=1) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema())
