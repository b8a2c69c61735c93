import shutil

import pytest

from pipeline.runtime import artifacts, versions


@pytest.fixture
def version(tmp_path):
    """A version of another program, with no facts."""
    folder = tmp_path / "push" / "7"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    return folder


def test_the_newest_version_is_the_largest_number_whoever_wrote_it(tmp_path):
    base = tmp_path / "push"
    for name in ("9", "10", "not-a-version", ".incoming-11"):
        (base / name).mkdir(parents=True)
    (base / "12").write_text("a file")
    (base / "\N{SUPERSCRIPT TWO}").mkdir()
    assert versions.newest_version(base) == base / "10"
    assert versions.newest_version(tmp_path / "missing") is None


def test_a_version_has_the_digest_of_the_artifact_that_it_was_copied_from(version, tmp_path):
    artifact = tmp_path / "artifact"
    (artifact / "model.keras").mkdir(parents=True)
    shutil.copytree(version, artifact / versions.SAVED_MODEL)
    assert versions.digest(version) == versions.digest(artifact)
    assert versions.digest(version) == artifacts.model_digest(version)
    assert versions.saved_model(version) == version
    (version / "saved_model.pb").write_bytes(b"another")
    assert versions.digest(version) != versions.digest(artifact)


@pytest.mark.parametrize("text", ["[1]", "{", "7", "\xff"])
def test_a_file_of_facts_that_is_none_is_as_good_as_no_file(version, text):
    facts = version / artifacts.PROVENANCE
    facts.parent.mkdir()
    facts.write_bytes(text.encode("latin-1"))
    assert versions.provenance(version) == {}
    assert versions.intact(version)


def test_a_recorded_digest_is_that_of_the_model_and_says_if_it_is_damaged(version):
    facts = version / artifacts.PROVENANCE
    facts.parent.mkdir()
    facts.write_text('{"digest": "0123"}')
    assert versions.digest(version) == "0123"
    assert not versions.intact(version)
    fault = "is damaged: its files are not those that were pushed"
    assert versions.fault(version, 3) == fault
    assert versions.refusal("push/7", fault) == (
        "it cannot be compared with the model in service, push/7, which is damaged: its files are "
        "not those that were pushed; to push it without this comparison, add --replace"
    )
