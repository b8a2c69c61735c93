"""The settings of a run in one place. The flags of both runners are generated from them."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from keras_ae import budgets, presets
from keras_ae.datasets.sources import base, splits
from keras_ae.datasets.sources.names import expand
from keras_ae.errors import ConfigurationError
from keras_ae.tuning.search_space import SearchSpace
from pipeline.runtime import memory


class Flag(NamedTuple):
    """How a setting is given on the command line; `read` raises ConfigurationError.

    A `repeated` flag may be given several times; its setting is a tuple.
    """

    help: str
    read: Callable[[str], Any] = str
    metavar: str | None = None
    repeated: bool = False


def number(kind: type, low: float, high: float) -> Callable[[str], Any]:
    """Makes a reader of an `int` or a `float` from `low` to `high`."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            name = "a whole number" if kind is int else "a number"
            raise ConfigurationError(f"expected {name} from {low} to {high}; got {text!r}")
        return value

    return read


def _preset(text: str) -> str:
    return presets.get(text).name


def _channels(text: str) -> int:
    if text not in ("1", "3"):
        raise ConfigurationError(f"expected 1 (grey) or 3 (RGB) channels; got {text!r}")
    return int(text)


def _stride(text: str) -> int:
    if text not in map(str, presets.STRIDES):
        raise ConfigurationError(f"expected 2, 4, 8 or 16; got {text!r}")
    return int(text)


def _copies(text: str) -> str:
    if text not in ("perceptual", "content"):
        raise ConfigurationError(f"expected perceptual or content; got {text!r}")
    return text


def _tile(text: str) -> int:
    return presets.check_tile(int(text) if text.isdecimal() else 0, presets.STRIDE)


def _plain_uri(text: str) -> str:
    # The report shows the address.
    if "@" in urlsplit(text).netloc:
        raise ConfigurationError(
            "give user and password in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, not "
            "in the address"
        )
    return text


def _splits(text: str) -> str:
    if text not in splits.MODES:
        raise ConfigurationError(f"expected {', '.join(splits.MODES)}; got {text!r}")
    return text


def _setting(default: Any, help: str, *details: Any) -> Any:
    return dataclasses.field(default=default, metadata={"flag": Flag(help, *details)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of a run: data, training, comparison, and the limits of a push.

    Each setting is described by the help of its flag. In a pipeline that Kubeflow runs, `data`
    may be a runtime parameter, `preset` if nothing is tuned and no baseline compared, and `seed` if
    it is the only one and nothing is tuned.

    Raises:
        ConfigurationError: for settings that do not go together.
    """

    data: str = _setting(
        base.SAMPLE,
        "a folder (searched recursively), a picture, a .zip or .tar of images, a .npy, .npz or "
        ".parquet, any of these at gs://, tfds:NAME[:VERSION], or 'sample' for the photographs "
        "inside scikit-image and scikit-learn",
        expand,
    )
    splits: str = _setting(
        splits.AUTO,
        "auto keeps the splits of the data (folders, arrays or tables named train, val and test, "
        "or those of a TensorFlow dataset), folders requires such folders, hash splits all images "
        "by their content",
        _splits,
        "{auto,folders,hash}",
    )
    exclude: tuple[str, ...] = _setting(
        (),
        "leave out files and folders whose path below the data matches, such as '*/masks'; may be "
        "given several times",
        str,
        "GLOB",
        True,
    )
    follow_links: bool = _setting(False, "follow links to folders, and out of the folder of --data")
    budgets: tuple[int, ...] = _setting(
        budgets.DEFAULT, "increasing numbers of epochs", budgets.parse
    )
    preset: str = _setting(presets.DEFAULT, f"the model: {', '.join(presets.PRESETS)}", _preset)
    channels: int = _setting(3, "1 for grey, 3 for RGB", _channels, "{1,3}")
    latent_channels: int = _setting(
        presets.LATENT_CHANNELS,
        "values per latent position, at most those of a patch: --stride x --stride x --channels",
        number(int, 1, max(presets.STRIDES) ** 2 * 3),
        "N",
    )
    stride: int = _setting(
        presets.STRIDE,
        "pixels per latent position along each side",
        _stride,
        "{2,4,8,16}",
    )
    seed: int = _setting(0, "seed of weights, crops and order", number(int, 0, 2**31))
    seeds: int = _setting(
        1,
        "number of ladders to train, with the seeds --seed, --seed + 1 and so on",
        number(int, 1, 1000),
        "N",
    )
    with_baseline: bool = _setting(
        False, f"train and compare the preset {presets.BASELINE} as well, with the first seed"
    )
    batch_size: int = _setting(32, "batch size (maximum)", number(int, 1, 2**16))
    tile: int = _setting(
        presets.SERVING_TILE,
        "larger images are served in overlapping tiles of this side (half of it at stride 4, "
        "a quarter at stride 2), in bounded memory",
        _tile,
        "PIXELS",
    )
    tune: int = _setting(
        0,
        "trials of a search for a better width, depth, learning rate and batch size, before "
        "the ladder",
        number(int, 0, 10_000),
        "N",
    )
    tune_epochs: int = _setting(10, "epochs of each trial", number(int, 1, 2**31))
    tune_parameters: int = _setting(
        0,
        "maximum number of trainable parameters of a trial's model; 0 for that of the preset",
        number(int, 0, 2**31),
    )
    memory_limit: float | None = _setting(
        None,
        "memory for decoded training images; if they need more, they are decoded again in each "
        "epoch (default: half of this machine's memory)",
        number(float, 0, 10**6),
        "GB",
    )
    tolerance: float = _setting(
        0.1,
        "dB of mean val PSNR within which budgets count as equal when one is chosen",
        number(float, 0, 100),
    )
    min_gain: float = _setting(
        0.0,
        "dB by which mean test PSNR must exceed that of the linear floor for a push; at 0 any "
        "gain over the best linear autoencoder of the same size suffices",
        number(float, -100, 100),
        "DB",
    )
    max_drop: float = _setting(
        0.1,
        "dB of mean test PSNR that a pushed model may lose against the model in service; by "
        "default the difference within which budgets count as equal",
        number(float, 0, 100),
        "DB",
    )
    max_slice_drop: float = _setting(
        0.5,
        "the same for each slice of at least 8 test images (a label, a folder, a quarter by "
        "size, brightness or detail); by default more than --max-drop, because a mean over few "
        "images is less certain",
        number(float, 0, 100),
        "DB",
    )
    replace: bool = _setting(
        False,
        "push a model without comparing it with the one in service, for which --max-drop and "
        "--max-slice-drop then do not count; for models that cannot be compared",
    )
    max_bad_share: float = _setting(
        0.1, "share of unreadable images above which the run stops", number(float, 0, 1)
    )
    copies: str = _setting(
        "perceptual",
        "which files are copies of one picture, which counts once and is in one split: those that "
        "differ by format, compression or size only (perceptual), or by nothing (content)",
        _copies,
        "{perceptual,content}",
    )
    white: float | None = _setting(
        None,
        "level that is white in images with more than 8 bits (default: the smallest of 8, 10, 12, "
        "14 and 16 bits that holds the levels of all 16-bit training images, and 1 for floats)",
        number(float, 1e-6, 2**32),
        "LEVEL",
    )
    mlflow_uri: str | None = _setting(
        None,
        "address of an MLflow server to log the run to, such as http://127.0.0.1:5000",
        _plain_uri,
        "URI",
    )
    mlflow_experiment: str = _setting("keras-ae", "MLflow experiment of the run", str, "NAME")

    def __post_init__(self) -> None:
        needed = {
            "tune_epochs": "tune",
            "tune_parameters": "tune",
            "mlflow_experiment": "mlflow_uri",
        }
        for name, other in needed.items():
            if not getattr(self, other) and getattr(self, name) != getattr(RunConfig, name):
                flags = [f"--{each.replace('_', '-')}" for each in (name, other)]
                raise ConfigurationError(" needs ".join(flags))
        presets.check_latent_channels(self.latent_channels, self.stride, self.channels)
        if self.tune:
            # It checks the settings that it is made of.
            _ = self.search_space
        if self.with_baseline and self.preset == presets.BASELINE:
            raise ConfigurationError(
                f"--with-baseline needs a --preset other than {presets.BASELINE}"
            )

    @property
    def source_options(self) -> dict[str, Any]:
        """The options of `keras_ae.datasets.sources.open.open_source`."""
        return {name: getattr(self, name) for name in ("splits", "exclude", "follow_links")}

    @property
    def search_space(self) -> SearchSpace:
        """The search space of `tune`."""
        preset = presets.get(self.preset)
        shape = self.channels, self.stride, self.latent_channels
        return SearchSpace(preset, self.batch_size, self.tune_parameters, *shape)

    @property
    def memory_limit_bytes(self) -> int | None:
        """`memory_limit` in bytes; None for half of the memory of the machine that trains."""
        return None if self.memory_limit is None else int(self.memory_limit * memory.GB)


def flags() -> dict[str, tuple[Any, Flag]]:
    """The default and the flag of each setting, by its name."""
    return {f.name: (f.default, f.metadata["flag"]) for f in dataclasses.fields(RunConfig)}
