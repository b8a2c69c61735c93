"""What the page does with an image before it is sent: its script in Node, against the corpus."""

import base64
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from keras_ae.datasets.images.levels import White
from keras_ae.datasets.images.normalize import decode
from serving.client.prepare import _is_common_bmp
from serving.server.frontends import playground
from tests.corpus.formats import BLACK, NOT_TURNED, REFUSED, SAME, WHITE, samples

NODE = """
class UserError extends Error {}
class ImageData {
  constructor(width, height) { this.data = new Uint8ClampedArray(4 * width * height); }
}
const MAX_CANVAS_PIXELS = 16e6, MAX_PIXELS = 64e6;
const decode = async (blob) => ({ blob });
%s
toSeenPng = async (bitmap, orientation) => ({ orientation, decoded: bitmap.blob });
const base64 = (bytes) => Buffer.from(bytes).toString("base64");
async function look(data) {
  const bytes = Uint8Array.from(Buffer.from(data, "base64"));
  const file = new Blob([bytes]);
  file.name = "file";
  try {
    const { sent, shown, levels } = await prepare(file);
    const decoded = sent.decoded ?? shown;
    return { same: sent === file, orientation: sent.orientation,
      pixels: levels && base64(toImageData(levels, %d).data),
      decoded: base64(new Uint8Array(await decoded.arrayBuffer())) };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { problem: error.message };
  }
}
const read = async () => {
  let text = "";
  for await (const part of process.stdin) text += part;
  const answers = [];
  for (const data of JSON.parse(text)) answers.push(await look(data));
  console.log(JSON.stringify(answers));
};
read();
"""


@pytest.fixture(scope="module")
def look():
    """look([bytes, ...]) -> what the page would send of each file."""
    from playwright._impl._driver import compute_driver_executable

    page = Path(playground.__file__).with_suffix(".html").read_text()
    start = page.index("const ascii =")
    functions = page[start : page.index("const decode =", start)]
    functions = functions.replace("async function toSeenPng", "let toSeenPng; async function other")

    def look_at(files):
        done = subprocess.run(
            [compute_driver_executable()[0], "-e", NODE % (functions, WHITE)],
            input=json.dumps([base64.b64encode(data).decode() for data in files]),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return look_at


def test_only_what_a_server_would_decode_wrongly_is_changed(look):
    answers = look([sample.data for sample in samples()])
    for sample, answer in zip(samples(), answers, strict=True):
        assert answer.get("problem") is None, sample.name
        assert answer["same"] == (sample.raw == SAME), sample.name
        if sample.raw == NOT_TURNED:
            assert answer["orientation"] == int(sample.name.split("-")[1][0])
        elif sample.raw in (BLACK, REFUSED):
            assert answer["orientation"] == 1


def test_a_browser_shows_a_turned_image_as_it_is_stored(look):
    turned = [sample for sample in samples() if sample.raw == NOT_TURNED]
    for sample, answer in zip(turned, look([sample.data for sample in turned]), strict=True):
        stored = base64.b64decode(answer["decoded"])
        upright = next(
            s
            for s in samples()
            if s.name == sample.name.replace(sample.name.split("-")[1][0], "1", 1)
        )
        assert np.array_equal(decode(stored, 3), decode(upright.data, 3)), sample.name


def test_16_bit_levels_are_shown_as_a_model_sees_them(look):
    deep = [
        sample
        for sample in samples()
        if sample.name.startswith("16-bit") and sample.name.endswith("png")
    ]
    assert len(deep) == 6
    for sample, answer in zip(deep, look([sample.data for sample in deep]), strict=True):
        pixels = decode(sample.data, 3, white=White(WHITE))
        shown = np.frombuffer(base64.b64decode(answer["pixels"]), np.uint8)
        assert np.array_equal(shown.reshape(*pixels.shape[:2], 4)[..., :3], pixels), sample.name


def test_bad_files_are_sent_as_they_are(look):
    good = [sample.data for sample in samples() if sample.raw == SAME]
    bad = [data[: len(data) // 3] for data in good] + [b"", b"text"]
    for data, answer in zip(bad, look(bad), strict=True):
        # Of what is not there, the page cannot know that it is in the usual order.
        is_unusual = data.startswith(b"BM") and not _is_common_bmp(data)
        assert answer["same"] or is_unusual or data.startswith(b"GIF")
