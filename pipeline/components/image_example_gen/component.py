"""ImageExampleGen, the component that converts images of any source to tf.Examples."""

import json
from collections.abc import Sequence
from typing import Any

from tfx.dsl.components.base import base_beam_component
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import channel_utils, component_spec, standard_artifacts

from keras_ae import contract as c
from keras_ae import presets
from keras_ae.datasets.sources.splits import AUTO
from pipeline.components.image_example_gen import executor, pictures


class ImageExampleGenSpec(component_spec.ComponentSpec):
    PARAMETERS = {  # noqa: RUF012
        "data": component_spec.ExecutionParameter(type=str),
        "fingerprint": component_spec.ExecutionParameter(type=str),
        "channels": component_spec.ExecutionParameter(type=int),
        "stride": component_spec.ExecutionParameter(type=int),
        "max_bad_share": component_spec.ExecutionParameter(type=float),
        "copies": component_spec.ExecutionParameter(type=str),
        "white": component_spec.ExecutionParameter(type=float),
        "splits": component_spec.ExecutionParameter(type=str),
        "exclude": component_spec.ExecutionParameter(type=str),
        "follow_links": component_spec.ExecutionParameter(type=int),
        "leave_out": component_spec.ExecutionParameter(type=str),
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS: dict[str, Any] = {}  # noqa: RUF012
    OUTPUTS = {  # noqa: RUF012
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples)
    }


class ImageExampleGen(base_beam_component.BaseBeamComponent):
    """Reads, checks and splits images, and writes them as GZIP TFRecords of tf.Examples.

    Args:
        data: an argument of `keras_ae.datasets.sources.open.open_source`, or a runtime parameter.
        fingerprint: fingerprint of the data, or a runtime parameter; a new one invalidates caches.
        channels: 1 or 3.
        stride: minimum side of at least one training image in pixels; the component fails else.
        max_bad_share: maximum share of bad images, 0 to 1; the component fails above it.
        copies: "perceptual" to find files that look the same, "content" only those of equal bytes.
        white: level of images with more than 8 bits that becomes 255; 0 for the smallest range that
            contains the levels of all 16-bit training images, and 1 for floats.
        splits, exclude, follow_links, leave_out: options of `open_source`.
        code: fingerprint of the source code of the executor.
    """

    SPEC_CLASS = ImageExampleGenSpec
    EXECUTOR_SPEC = BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        data: Any,
        fingerprint: Any,
        channels: int = 3,
        stride: int = presets.STRIDE,
        max_bad_share: float = 0.1,
        copies: str = pictures.PERCEPTUAL,
        white: float = 0.0,
        splits: str = AUTO,
        exclude: Sequence[str] = (),
        follow_links: bool = False,
        leave_out: Sequence[str] = (),
        code: str = "",
    ):
        examples = standard_artifacts.Examples()
        examples.splits = list(c.SPLITS)
        spec = ImageExampleGenSpec(
            data=data,
            fingerprint=fingerprint,
            channels=channels,
            stride=stride,
            max_bad_share=max_bad_share,
            copies=copies,
            white=white,
            splits=splits,
            exclude=json.dumps(list(exclude)),
            follow_links=int(follow_links),
            leave_out=json.dumps(list(leave_out)),
            code=code,
            examples=channel_utils.as_channel([examples]),
        )
        super().__init__(spec=spec)
