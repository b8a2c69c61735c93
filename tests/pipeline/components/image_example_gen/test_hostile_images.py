import json

from keras_ae import contract as c
from keras_ae.datasets.images.normalize import normalize
from pipeline.components.image_example_gen.executor import QUARANTINE
from tests.corpus import IMAGES, OUTSIDE, files, write
from tests.corpus.entries import ACCEPTED, SKIPPED
from tests.pipeline.components.image_example_gen.test_executor import examples_of, ingest


def test_all_good_images_among_hostile_files_become_examples(tmp_path):
    write(tmp_path / "corpus")
    folder = tmp_path / "corpus" / IMAGES
    secret = (tmp_path / "corpus" / OUTSIDE / "secret.png").read_bytes()
    artifact = ingest(folder, tmp_path / "out", max_bad_share=1.0)

    examples = {
        example[c.IMAGE_SOURCE].decode(): example[c.IMAGE_ENCODED]
        for split in examples_of(artifact).values()
        for example in split
    }
    good = {file.key: file.name for file in files() if file.expected == ACCEPTED}
    assert examples.keys() == good.keys()
    for key, name in good.items():
        assert examples[key] == normalize((folder / name).read_bytes(), 3)[0]
    assert secret not in examples.values()

    lines = (tmp_path / "out" / QUARANTINE).read_text().splitlines()
    reasons = {entry["source"]: entry["reason"] for entry in map(json.loads, lines)}
    bad = {file.key: file.expected for file in files() if file.expected not in (ACCEPTED, SKIPPED)}
    assert len(reasons) == len(lines)
    assert reasons.keys() == bad.keys()
    assert all(bad[key] in reason for key, reason in reasons.items())

    outside = [path.name for path in (tmp_path / "corpus" / OUTSIDE).iterdir()]
    assert outside == ["secret.png"]
    assert {path.name for path in tmp_path.iterdir()} <= {"corpus", "out", "out-temp"}
