import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.run_kubeflow import main, parse_arguments
from pipeline.runners.kubeflow import cluster

ROOT = Path(__file__).parents[2]
REQUIRED = ["--image", "keras-ae:1", "--pipeline-root", "gs://bucket/root", "--output", "p.yaml"]


def test_folders_are_below_the_pipeline_root_by_default():
    arguments = parse_arguments(REQUIRED)
    assert arguments.push_dir == "gs://bucket/root/serving/keras_ae"
    assert arguments.checkpoints == "gs://bucket/root/checkpoints"
    other = parse_arguments([*REQUIRED, "--push-dir", "/models/m", "--volume", "models:/models"])
    assert other.push_dir == "/models/m"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--gpu", "0"], "expected none, or NAME=COUNT such as nvidia.com/gpu=1; got '0'"),
        (["--gpu", "nvidia.com/gpu=0"], "got 'nvidia.com/gpu=0'"),
        (["--gpu", "one"], "got 'one'"),
        (["--cpu", "many"], "expected a positive quantity such as 2, 500m or 8Gi; got 'many'"),
        (["--memory", "0"], "expected a positive quantity"),
        (["--toleration", "gpu"], "expected KEY:EFFECT .* got 'gpu'"),
        (["--toleration", "gpu:Never"], "one of NoSchedule, PreferNoSchedule, NoExecute; got"),
        (["--node-selector", "pool"], "expected KEY=VALUE; got 'pool'"),
        (["--volume", "claim"], "expected NAME:/PATH such as images:/data; got 'claim'"),
        (["--pipeline-root", "runs/x"], "gs://BUCKET/FOLDER or s3://.* got 'runs/x'"),
        (["--pipeline-root", "gs://"], "got 'gs://'"),
        (["--name", "Mine"], "expected lower-case letters, digits and hyphens; got 'Mine'"),
        (["--output", "p.json"], "Kubeflow takes .yaml only; got 'p.json'"),
        (["--submit"], "--submit needs --host"),
        (["--submit", "--host", "kubeflow:80"], "expected http://HOST or https://HOST; got"),
        (["--data", "images"], "--data: the nodes cannot reach 'images': give a gs:// or s3://"),
        (["--data", "/d/x", "--volume", "v:/data"], "the nodes cannot reach '/d/x'"),
        (["--push-dir", "/models"], "--push-dir: the nodes cannot reach '/models'"),
        (["--preset", "vgg"], "preset must be one of"),
        (["--beam-runner", "storm"], "invalid choice: 'storm'"),
    ],
)
def test_a_wrong_flag_is_reported(flags, text, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_arguments([*REQUIRED, *flags])
    assert caught.value.code == 2
    assert re.search(text, capsys.readouterr().err.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--output", "p.yaml", "--pipeline-root", "gs://b/r"], "required: --image"),
        (["--output", "p.yaml", "--image", "x"], "required: --pipeline-root"),
        (
            ["--image", "x", "--pipeline-root", "gs://b/r"],
            "expected --output FILE.yaml, --submit, or both",
        ),
    ],
)
def test_a_missing_flag_is_reported(arguments, text, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
    assert text in capsys.readouterr().err.splitlines()[-1]


def test_the_command_of_the_report_leaves_out_the_parameters_of_a_run():
    flags = ["--budgets", "1,2", "--preset", "small", "--seed", "3", "--gpu", "a/b=1"]
    flags += ["--env", "A=1", "--env", "B=2", "--data", "gs://b/x.zip", "--data-fingerprint", "v1"]
    arguments = parse_arguments([*REQUIRED, *flags, "--", "--temp_location=gs://b/t"])
    assert arguments.command == (
        "python pipeline/run_kubeflow.py --budgets 1,2 --image keras-ae:1 "
        "--pipeline-root gs://bucket/root --gpu a/b=1 --env A=1 --env B=2 -- "
        "--temp_location=gs://b/t"
    )
    again = parse_arguments([*REQUIRED[-2:], *shlex.split(arguments.command)[2:]])
    assert again.command == arguments.command
    fixed = parse_arguments([*REQUIRED, "--seeds", "2", "--seed", "3"]).command
    assert "--seed 3 --seeds 2" in fixed


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2), ("500m", 0.5), ("4Gi", 4 * 2**30), ("1.5G", 1.5e9), ("8Ki", 8192)]
)
def test_quantities_are_those_of_kubernetes(text, value):
    assert cluster.quantity(text) == value


def test_a_folder_that_cannot_be_written_ends_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pipeline.runners.kubeflow.runner.compiled", lambda arguments: "text")
    (tmp_path / "file").touch()
    assert main([*REQUIRED[:-1], str(tmp_path / "file" / "p.yaml")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot write ")


def test_flags_are_checked_before_anything_heavy_is_imported():
    program = (
        "import sys\n"
        "from pipeline.run_kubeflow import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'tensorflow', 'keras', 'tfx', 'apache_beam', 'kfp', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for flag in ("--submit", "--gpu", "--toleration", "--incumbent-uri", "--budgets", "--workers"):
        assert flag in done.stdout
