import dataclasses
import json
import shlex

import pytest
import yaml

from pipeline.run_kubeflow import parse_arguments as parse_kubeflow
from pipeline.run_local import parse_arguments
from pipeline.runners.flags import resolve_data
from pipeline.runtime.run_config import RunConfig

SETTINGS = {"preset": "small", "budgets": [10, 100], "with-baseline": True, "min_gain": -1.5}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


def test_a_file_of_settings_is_equivalent_to_its_flags(file, tmp_path):
    flags = ["--preset", "small", "--budgets", "10,100", "--with-baseline", "--min-gain", "-1.5"]
    expected = parse_arguments(flags)
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(SETTINGS))
    for name in (file, path):
        arguments = parse_arguments(["--config", str(name)])
        assert arguments.config == expected.config
        assert arguments.command == expected.command


def test_flags_take_precedence_over_the_file(file):
    arguments = parse_arguments([f"--config={file}", "--budgets=5", "--min-g", "0", "--seed", "3"])
    assert arguments.config == RunConfig(preset="small", budgets=(5,), with_baseline=True, seed=3)


def test_a_flag_takes_nothing_from_the_file_that_only_begins_like_it(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("tune_epochs: 3\n")
    assert parse_arguments(["--config", str(path), "--tune", "2"]).config.tune_epochs == 3


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--budgets", "1,2", "--root", "runs/it", "--workers", "2", "--memory-limit", "0.5"],
        ["--tune", "2", "--tune-epochs", "3", "--seeds", "2", "--push-dir", "/a b/models"],
        ["--exclude", "*/masks", "--exclude", "a b,c", "--splits", "hash", "--follow-links"],
    ],
)
def test_what_a_run_writes_repeats_it_from_any_folder(flags, tmp_path, monkeypatch):
    first = parse_arguments(flags)
    assert parse_arguments(shlex.split(first.command)[2:]).config == first.config
    path = tmp_path / "config.yaml"
    path.write_text(first.settings)
    monkeypatch.chdir(tmp_path)
    again = parse_arguments(["--config", str(path)])
    assert again.config == dataclasses.replace(first.config, data=resolve_data(first.data))
    for name, value in vars(again).items():
        if name not in ("config", "data", "command"):
            assert value == getattr(first, name), name


def test_a_flag_may_be_given_several_times(tmp_path):
    config = parse_arguments(["--exclude", "a,b", "--exclude=c", "--splits=folders"]).config
    assert config.source_options == {
        "splits": "folders",
        "exclude": ("a,b", "c"),
        "follow_links": False,
    }
    path = tmp_path / "settings.yaml"
    path.write_text("exclude: [2017, x]\nsplits: hash\n")
    assert parse_arguments(["--config", str(path)]).config.exclude == ("2017", "x")
    assert parse_arguments(["--config", str(path), "--exclude", "y"]).config.exclude == ("y",)
    path.write_text("exclude: [2017, 2018]\n")
    assert parse_arguments(["--config", str(path)]).config.exclude == ("2017", "2018")


def test_data_in_a_folder_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = parse_arguments(["--data", "pictures"]).settings
    assert yaml.safe_load(settings)["data"] == str(tmp_path / "pictures")


def test_kubeflow_takes_the_same_file_and_its_own_settings(tmp_path):
    path = tmp_path / "settings.yaml"
    own = {"image": "keras-ae:1", "pipeline_root": "gs://bucket/root", "env": ["A=1", "B=2"]}
    path.write_text(yaml.safe_dump({**SETTINGS, **own, "output": "pipeline.yaml"}))
    arguments = parse_kubeflow(["--config", str(path)])
    assert arguments.config.budgets == (10, 100)
    assert (arguments.image, arguments.env) == ("keras-ae:1", ["A=1", "B=2"])
    assert parse_kubeflow(["--config", str(path), "--env", "C=3"]).env == ["C=3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bugets: [1]", "no setting 'bugets'; did you mean budgets?"),
        ("budgets: [10, 1]", "budgets must be increasing positive integers"),
        ("preset: {name: small}", "preset: expected a value or a list; got {'name': 'small'}"),
        ("- preset", "expected settings by name, such as 'preset: small'"),
        ("preset: [", "is neither YAML nor JSON"),
        ("tune_epochs: 3", "--tune-epochs needs --tune"),
        ("splits: halves", "expected auto, folders, hash; got 'halves'"),
        ("budgets: []", "budgets must be"),
    ],
)
def test_a_wrong_file_is_reported_in_one_line(tmp_path, text, message, capsys):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--config", str(path)])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("words", [["--conf", "FILE"], ["--config"]])
def test_a_file_is_never_ignored_silently(words, file, capsys):
    with pytest.raises(SystemExit):
        parse_arguments([str(file) if word == "FILE" else word for word in words])
    assert "--config" in capsys.readouterr().err.splitlines()[-1]


def test_options_of_beam_are_in_the_settings_that_a_run_writes():
    arguments = parse_arguments(["--beam-runner", "flink", "--", "--flink_master=host:8081"])
    assert arguments.settings.startswith(
        "# On the command line, add: -- --flink_master=host:8081\n"
    )


def test_a_file_that_is_not_there_is_reported(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--config", str(tmp_path / "none.yaml")])
    assert f"cannot read {tmp_path}/none.yaml: No such file" in capsys.readouterr().err
