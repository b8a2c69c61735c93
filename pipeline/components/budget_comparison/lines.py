"""The scores of an image as a line of JSON."""

import json

import numpy as np

from keras_ae.scores import FLOORS, Layout, Table


class Lines:
    """Tables to lines of `images.jsonl`, one for each image: an object of

    - `split`, `source`, `digest`, `height`, `width` (pixels) and `slices`, by what is sliced;
    - `patch_pca` and `global_pca`: PSNR of the floors in dB;
    - `scores`: by ladder of models and metric, a list for each seed of a number for each budget.

    Numbers are as short as float32 allows; null where a metric is not defined.

    Args:
        split: of the images.
        layout: what the columns of the tables mean.
    """

    def __init__(self, split: str, layout: Layout):
        self._order: list[int] = []
        columns = np.arange(layout.width)
        numbers = {name: self._place(layout.floor(name)) for name in FLOORS}
        of_models = {
            ladder: {
                metric: [
                    list(map(self._place, seed)) for seed in layout.of(columns, ladder, metric)
                ]
                for metric in ("psnr", "ssim", "ms_ssim", "mse")
            }
            for ladder in layout.seeds
        }
        template = json.dumps({**numbers, "scores": of_models}).replace('"%s"', "%s")
        self._begin, self._end = f'{{"split": {json.dumps(split)}, ', f", {template[1:]}\n"

    def _place(self, column: int) -> str:
        self._order.append(column)
        return "%s"

    def __call__(self, table: Table, height: int, width: int) -> str:
        """The lines of images of one size."""
        values = table.values[:, self._order]
        texts = np.where(np.isfinite(values), values.astype(str), "null").tolist()
        lines = []
        for row, numbers in enumerate(texts):
            about = {
                "source": table.sources[row],
                "digest": table.digests[row],
                "height": height,
                "width": width,
                "slices": {by: column[row] for by, column in table.slices.items()},
            }
            lines.append(self._begin + json.dumps(about)[1:-1] + self._end % (*numbers,))
        return "".join(lines)
