import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest

from pipeline.run_local import main, parse_arguments
from pipeline.runners.local import lock

ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "pipeline" / "run_local.py"), *arguments],
        cwd=cwd,
        # With buffered output, a full disk is noticed only when the buffer is written.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_defaults_are_those_of_the_documentation():
    arguments = parse_arguments([])
    assert arguments.budgets == (10, 100, 500, 1000, 2000)
    assert arguments.root == Path("runs/default").absolute()
    assert arguments.push_dir == arguments.root / "serving" / "keras_ae"
    assert arguments.memory_limit is None
    assert (arguments.min_gain, arguments.max_drop, arguments.max_slice_drop) == (0, 0.1, 0.5)
    assert parse_arguments(["--memory-limit", "0.5"]).memory_limit == 0.5
    assert parse_arguments(["--push-dir", "out"]).push_dir == Path("out").absolute()


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--data", ""], "argument --data: expected a path; got an empty string"),
        (["--data", ".", "--root", "."], "the root is the folder of --data"),
        (["--push-dir="], "argument --push-dir: expected a path; got an empty string"),
        (["--budgets", "100,10"], "budgets must be increasing positive integers .* got '100,10'"),
        (["--budgets", "ten"], "got 'ten'"),
        (["--preset", "vgg"], "preset must be one of baseline, small, medium, large; got 'vgg'"),
        (["--channels", "2"], r"expected 1 \(grey\) or 3 \(RGB\) channels; got '2'"),
        (["--stride", "3"], r"argument --stride: expected 2, 4, 8 or 16; got '3'"),
        (["--stride", "32"], r"expected 2, 4, 8 or 16; got '32'"),
        (["--latent-channels", "0"], "expected a whole number from 1 to 768; got '0'"),
        (["--latent-channels", "-4"], "expected a whole number from 1 to 768; got '-4'"),
        (["--latent-channels", "many"], "expected a whole number from 1 to 768; got 'many'"),
        (
            ["--latent-channels", "13", "--stride", "2"],
            "error: latent channels must be 1 to 12, the values of a patch of 2x2 pixels with 3 "
            "channels; got 13",
        ),
        (
            ["--latent-channels", "5", "--stride", "2", "--channels", "1"],
            "must be 1 to 4, the values of a patch of 2x2 pixels with 1 channel; got 5",
        ),
        (
            ["--tune", "1", "--tune-parameters", "20000", "--stride", "16"],
            "tuning needs a budget of at least .* got 20,000",
        ),
        (["--seed", "-1"], "expected a whole number from 0"),
        (["--seeds", "0"], "expected a whole number from 1 to 1000; got '0'"),
        (["--with-baseline", "--preset", "baseline"], "needs a --preset other than baseline"),
        (["--mlflow-experiment", "mine"], "--mlflow-experiment needs --mlflow-uri"),
        (["--mlflow-uri", "http://me:secret@host"], "password in MLFLOW_TRACKING_USERNAME"),
        (["--max-bad-share", "2"], "expected a number from 0 to 1; got '2'"),
        (["--max-drop", "-1"], "expected a number from 0 to 100; got '-1'"),
        (["--root", "gs://bucket/run"], "expected a folder on this machine; got 'gs://bucket/run'"),
        (["--min-gain", "nan"], "expected a number from -100 to 100; got 'nan'"),
        (["--tolerance", "nan"], "expected a number from 0 to 100; got 'nan'"),
        (["--tune", "-1"], "expected a whole number from 0 to 10000; got '-1'"),
        (["--tune", "1", "--tune-epochs", "0"], "expected a whole number from 1"),
        (["--tune-epochs", "3"], "--tune-epochs needs --tune"),
        (["--tune-parameters", "3"], "--tune-parameters needs --tune"),
        (["--tune", "1", "--tune-parameters", "3"], "needs a budget of .*; got 3"),
        (["--tune", "1", "--preset", "baseline"], "needs a preset with .* got baseline"),
        (["--memory-limit", "-1"], "expected a number from 0 to 1000000; got '-1'"),
        (["--memory-limit", "8GB"], "expected a number from 0 to 1000000; got '8GB'"),
        (["--memory-limit", "nan"], "expected a number from 0 to 1000000; got 'nan'"),
        (["--tile", "100"], "tile must be a positive multiple of 16 pixels; got 100"),
        (["--tile", "large"], "tile must be a positive multiple of 16 pixels; got 0"),
        (["--epochs", "3"], "unrecognized arguments: --epochs"),
        (["--bugets=3"], r"^run_local.py: error: unrecognized .*did you mean --budgets\?.*\n$"),
    ],
)
def test_a_wrong_flag_is_reported(flags, text, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_arguments(flags)
    assert caught.value.code == 2
    assert re.search(text, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("flags", "command"),
    [
        ([], ""),
        (["--budgets", "10,100,500,1000,2000", "--seed", "0"], ""),
        (["--budgets", "1,2", "--data", "my images"], " --data 'my images' --budgets 1,2"),
        (["--root", "runs/mine", "--seeds", "2"], " --root runs/mine --seeds 2"),
        (["--with-baseline", "--memory-limit", "0.5"], " --with-baseline --memory-limit 0.5"),
        (["--workers", "2"], " --workers 2"),
        (
            ["--beam-runner", "flink", "--", "--flink_master=host:1", "--job_name=my job"],
            " --beam-runner flink -- --flink_master=host:1 '--job_name=my job'",
        ),
    ],
)
def test_the_command_of_a_run_has_the_flags_that_differ_from_the_default(flags, command):
    arguments = parse_arguments(flags)
    assert arguments.command == f"python pipeline/run_local.py{command}"
    again = parse_arguments(shlex.split(arguments.command)[2:])
    assert vars(again) == vars(arguments)


def test_paths_are_expanded_as_a_shell_would(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = tmp_path / "settings.yaml"
    settings.write_text("preset: small\n")
    flags = ["--data=~/x", "--root=~/root", "--push-dir=~/push", "--config=~/settings.yaml"]
    arguments = parse_arguments(flags)
    assert (arguments.data, arguments.config.data) == (str(tmp_path / "x"),) * 2
    assert (arguments.root, arguments.push_dir) == (tmp_path / "root", tmp_path / "push")
    assert arguments.preset == "small"


def test_a_root_inside_the_data_is_left_out(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = parse_arguments(["--data", ".", "--root", "runs/a", "--push-dir", "models"])
    assert arguments.own_folders == {"runs/a": "root", "models": "push folder"}
    assert parse_arguments(["--data", "photos"]).own_folders == {}
    assert parse_arguments([]).own_folders == {}


def test_a_replacement_is_in_the_command_that_resumes_the_run_and_not_in_its_settings():
    arguments = parse_arguments(["--replace", "--seed", "7"])
    assert arguments.config.replace
    assert arguments.command == "python pipeline/run_local.py --seed 7 --replace"
    assert "replace" not in arguments.settings
    assert "seed: 7" in arguments.settings


def test_a_run_that_waits_for_another_one_has_the_same_command():
    waiting, other = parse_arguments(["--seed", "1", "--wait"]), parse_arguments(["--seed", "1"])
    assert waiting.command == other.command
    assert (waiting.wait, other.wait) == (True, False)


def test_a_second_run_in_a_root_names_the_first_one_and_changes_nothing(tmp_path, capsys):
    root = tmp_path / "root"
    root.mkdir()
    with lock.locked(root, "python pipeline/run_local.py --seed 7"):
        assert main(["--root", str(root), "--budgets", "1"]) == 1
        assert [path.name for path in root.iterdir()] == ["lock"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {root} is in use by process {os.getpid()} on ")
    assert ": python pipeline/run_local.py --seed 7; use --wait to wait for it" in line


def test_a_missing_engine_is_reported_before_anything_starts(tmp_path, capsys):
    flags = ["--root", str(tmp_path / "root"), "--beam-runner", "spark"]
    assert main([*flags, "--", "--job_server_java_launcher=/no/java"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the engine spark needs Java")
    assert not (tmp_path / "root").exists()


def test_dataflow_is_refused_a_folder_of_this_machine(tmp_path, capsys, monkeypatch):
    client = "apache_beam.runners.dataflow.internal.apiclient"
    monkeypatch.setitem(sys.modules, client, types.ModuleType(client))
    options = ["--project=p", "--region=r", "--temp_location=gs://b/t", "--sdk_container_image=i"]
    root = tmp_path / "root"
    assert main(["--root", str(root), "--beam-runner", "dataflow", "--", *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot reach the folder of --root; use run_kubeflow.py" in line
    assert not root.exists()


def test_flags_are_checked_before_anything_heavy_is_imported():
    program = (
        "import sys\n"
        "from pipeline.run_local import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'tensorflow', 'keras', 'tfx', 'apache_beam', 'jax', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for flag in (
        "--data",
        "--root",
        "--push-dir",
        "--budgets",
        "--preset",
        "--channels",
        "--seed",
        "--tile",
        "--tune",
        "--min-gain",
        "--max-drop",
        "--max-slice-drop",
    ):
        assert flag in done.stdout


def make_text_files(place: Path) -> Path:
    place.mkdir()
    (place / "a.txt").write_text("text")
    return place


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (lambda t: ["--data", f"{t}/missing"], "no such folder or archive"),
        (lambda t: ["--data", f"{t}"], "no image in"),
        (lambda t: ["--data", str(make_text_files(t / "texts"))], "not read: 1 .txt"),
        (lambda t: ["--root", f"{make_text_files(t / 'texts')}/a.txt/x"], "cannot write to"),
        (lambda t: ["--push-dir", f"{make_text_files(t / 'texts')}/a.txt/x"], "cannot write to"),
    ],
)
def test_bad_paths_end_in_one_line(arguments, text, tmp_path, capsys):
    flags = arguments(tmp_path)
    roots = [] if "--root" in flags else ["--root", str(tmp_path / "root")]
    assert main([*flags, *roots]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert text in lines[0]


def test_an_unknown_tensorflow_dataset_ends_in_one_line(tmp_path):
    done = run("--data", "tfds:cifar11", "--root", str(tmp_path / "root"), cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no TensorFlow dataset 'cifar11'")
    assert "did you mean" in line


def test_data_in_a_store_that_cannot_be_read_ends_in_one_line(tmp_path, capfd):
    assert main(["--data", "s3://bucket/images", "--root", str(tmp_path / "root")]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: cannot read s3://bucket/images: TensorFlow has no filesystem")


def test_too_many_bad_images_end_in_one_line(tmp_path, photographs, encode):
    data = tmp_path / "images"
    data.mkdir()
    for i in range(4):
        (data / f"{i}.png").write_bytes(encode(photographs[0][i : i + 80], "PNG"))
    (data / "bad.png").write_text("text")
    done = run("--data", str(data), cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: 1 of 5 images cannot be used")
    assert "bad.png: not a PNG" in line
    assert "Traceback" not in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_ends_in_one_line_and_earlier_results_stay(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)])
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        (disk / "comparison.json").write_text("earlier")
        done = run("--root", str(disk), "--budgets", "1", cwd=tmp_path)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert "No space left on device" in line
        assert (disk / "comparison.json").read_text() == "earlier"
    finally:
        subprocess.run(["umount", str(disk)], check=True)
