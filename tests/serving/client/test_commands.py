"""The command line of the client, with the local server."""

import contextlib
import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.client.blocking import ReconstructionClient
from serving.client.cli.commands import main
from serving.client.cli.output import COLUMNS

ROOT = Path(__file__).parents[3]


@pytest.fixture
def running(real_server):
    return real_server.running


@pytest.fixture
def run(running, capsys):
    """run(*arguments, target=...) -> exit status, stdout, stderr."""

    def run_command(*arguments, target=running.grpc):
        try:
            status = main([*map(str, arguments), "--target", target])
        except SystemExit as exit_:
            status = exit_.code
        return status, *capsys.readouterr()

    return run_command


@pytest.fixture
def folder(tmp_path, photographs, encode):
    """A folder of images, two of which share a name, with a text file and a hidden folder."""
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / "a.png").write_bytes(encode(photographs[0][:40, :40], "PNG"))
    (folder / "a.jpg").write_bytes(encode(photographs[0][:40, :30], "JPEG"))
    (folder / "deep" / "b.WEBP").write_bytes(encode(photographs[1][:33, :50], "WEBP"))
    (folder / "deep" / "er" / "c.bmp").write_bytes(encode(photographs[1][:8, :8], "BMP"))
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden" / "d.png").write_bytes(b"hidden")
    return folder


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def assert_one_line(text):
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    return text


def test_reconstruct_an_image(run, running, folder, tmp_path):
    status, out, err = run("reconstruct", folder / "a.png", tmp_path / "new" / "out.png")
    assert (status, err) == (0, "")
    assert "PSNR" in out
    with ReconstructionClient(running.grpc) as client:
        expected = client.reconstruct(pixels(folder / "a.png")[None])[0]
    np.testing.assert_allclose(
        pixels(tmp_path / "new" / "out.png").astype(int), expected.image, atol=1
    )
    assert "cannot tell" not in out
    psnr = float(re.search(r"PSNR (\S+) dB", out)[1])
    assert psnr == pytest.approx(expected.psnr, abs=0.05)


def test_noise_is_not_called_usual_by_a_model_with_few_val_images(
    run, mixed_server, encode, tmp_path
):
    noise = np.random.default_rng(0).integers(0, 2, (64, 64, 3), np.uint8) * 255
    (tmp_path / "noise.png").write_bytes(encode(noise, "PNG"))
    noise, target = tmp_path / "noise.png", mixed_server.running.grpc
    _, out, _ = run("reconstruct", noise, tmp_path / "out.png", "--model", "few", target=target)
    assert out.endswith(
        "error percentile 0.80 of the val images: cannot tell whether it is unusual "
        "(val images: 4 of the 99 needed)\n"
    )
    _, out, _ = run("score", noise, "--model", "few", target=target)
    [row] = csv.DictReader(io.StringIO(out))
    assert (row["percentile"], row["unusual"]) == ("0.8", "")


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_reconstruct_a_folder(run, running, folder, tmp_path, protocol):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    target = getattr(running, protocol)
    status, out, _ = run("reconstruct", folder, tmp_path / "out", target=target)
    assert (status, out) == (0, f"4 of 4 images reconstructed in {tmp_path / 'out'}\n")
    shapes = {
        str(path.relative_to(tmp_path / "out")): pixels(path).shape
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert shapes == {
        "a.png.png": (40, 40, 3),
        "a.jpg.png": (40, 30, 3),
        "deep/b.png": (33, 50, 3),
        "deep/er/c.png": (8, 8, 3),
    }
    assert all(path.read_bytes() == data for path, data in before.items())


def test_bad_images_of_a_folder_are_listed_and_the_others_written(run, folder, tmp_path):
    (folder / "deep" / "text.png").write_text("text")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere")
    status, out, err = run("reconstruct", folder, tmp_path / "out")
    assert status == 1
    assert out.startswith("4 of 6 images")
    assert f"{folder / 'deep' / 'text.png'}: not a PNG" in err
    assert f"{folder / 'gone.png'}: cannot be read: No such file" in err
    assert err.endswith("error: 2 of 6 images could not be used\n")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 4


def test_many_images_keep_their_names(run, photographs, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(50):
        Image.fromarray(photographs[0][: i + 1, :20]).save(tmp_path / "in" / f"{i}.png")
    assert run("reconstruct", tmp_path / "in", tmp_path / "out")[0] == 0
    for i in range(50):
        assert pixels(tmp_path / "out" / f"{i}.png").shape == (i + 1, 20, 3)
    _, out, _ = run("score", tmp_path / "in")
    paths = [row["path"] for row in csv.DictReader(io.StringIO(out))]
    assert paths == sorted(str(tmp_path / "in" / f"{i}.png") for i in range(50))


def test_an_output_folder_inside_the_input_is_not_read(run, folder):
    for _ in range(2):
        status, out, _ = run("reconstruct", folder, folder / "out")
        assert (status, out.split()[:3]) == (0, ["4", "of", "4"])


def test_inputs_are_never_overwritten(run, folder, tmp_path):
    data = (folder / "a.png").read_bytes()
    link = tmp_path / "link.png"
    link.hardlink_to(folder / "a.png")
    (tmp_path / "same").symlink_to(folder, target_is_directory=True)
    for source, target in (
        (folder / "a.png", folder / "a.png"),
        (folder / "a.png", link),
        (folder, folder),
        (folder, tmp_path / "same"),
    ):
        status, _, err = run("reconstruct", source, target)
        assert status == 1
        assert "input" in assert_one_line(err)
    (tmp_path / "out" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "er" / "c.png").hardlink_to(folder / "deep" / "er" / "c.bmp")
    status, _, err = run("reconstruct", folder, tmp_path / "out")
    assert status == 1
    assert "c.png is one of the inputs" in assert_one_line(err)
    status, _, err = run("score", folder / "a.png", "--output", folder / "a.png")
    assert status == 1
    status, _, err = run("compare", folder / "a.png", folder / "a.png")
    assert status == 1
    assert (folder / "a.png").read_bytes() == data
    assert not (tmp_path / "out" / "a.png.png").exists()


def test_score_as_csv(run, running, folder):
    (folder / "text.png").write_text("text, with a comma")
    status, out, err = run("score", folder / "deep", folder / "a.png", folder / "text.png")
    assert status == 1
    assert "text.png: not a PNG" in err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert tuple(rows[0]) == COLUMNS
    assert [Path(row["path"]).name for row in rows] == ["b.WEBP", "c.bmp", "a.png", "text.png"]
    with ReconstructionClient(running.grpc) as client:
        expected = client.score(folder / "a.png")
    for name in ("mse", "psnr", "ssim", "ms_ssim", "percentile", "floor_psnr"):
        assert float(rows[2][name]) == pytest.approx(float(getattr(expected, name)[0]), rel=1e-3)
    assert (rows[2]["unusual"], rows[2]["status"]) == ("false", "")
    assert (rows[3]["mse"], rows[3]["unusual"]) == ("", "")
    assert rows[1]["ssim"] == "", "too small for SSIM"


def test_score_as_json_lines_in_a_file(run, folder, photographs, encode, tmp_path):
    noise = np.random.default_rng(0).integers(0, 2, (64, 64, 3), np.uint8) * 255
    (folder / "noise.png").write_bytes(encode(noise, "PNG"))
    output = tmp_path / "new" / "scores.jsonl"
    status, out, err = run("score", folder, "--format", "jsonl", "--output", output)
    assert (status, out, err) == (0, "", "not read: 1 .txt\n")
    *rows, last = [json.loads(line) for line in output.read_text().splitlines()]
    assert last == {"not_read": {".txt": 1}}
    assert [tuple(row) for row in rows] == [COLUMNS] * 5
    unusual = {Path(row["path"]).name: row["unusual"] for row in rows}
    assert unusual["noise.png"] is True
    assert unusual["a.png"] is False
    assert next(row for row in rows if row["path"].endswith("c.bmp"))["ssim"] is None


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_compare(run, running, folder, tmp_path, protocol):
    output = tmp_path / "compared.png"
    status, out, err = run("compare", folder / "a.png", output, target=getattr(running, protocol))
    assert (status, err) == (0, "")
    assert "PSNR" in out
    picture = pixels(output)
    # Three panels side by side, each enlarged by a factor of seven.
    assert picture.shape[1] > 3 * 280 > picture.shape[0]


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_status_and_metadata(run, running, protocol):
    target = getattr(running, protocol)
    assert run("status", target=target) == (0, "version 1  AVAILABLE\n", "")
    status, out, err = run("metadata", target=target)
    assert (status, err) == (0, "")
    assert out.startswith("keras_ae, version 1\n")
    assert (
        "encode\n  takes images: uint8 [?, ?, ?, 3]\n  gives latents: float32 [?, ?, ?, 8]" in out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reconstruct", "nowhere.png", "out.png"], "cannot read nowhere.png: No such file"),
        (["reconstruct", "text.txt", "out.png"], "text.txt: not a PNG, JPEG, BMP, GIF or WebP"),
        (["reconstruct", "empty", "out"], "no image in empty"),
        (["reconstruct", "image.png", "out.jpg"], "ends in .png; got out.jpg"),
        (["reconstruct", "image.png", "text.txt/out.png"], "cannot write text.txt/out.png"),
        (["reconstruct", "folder", "text.txt"], "text.txt is a file"),
        (["compare", "text.txt", "out.png"], "text.txt: not a PNG"),
        (["compare", "nowhere.png", "out.png"], "cannot read nowhere.png"),
        (["score", "nowhere"], "no such file or folder: nowhere"),
        (["score", "empty"], "no image in empty"),
        (["status", "--model", "other"], "other"),
        (["score", "image.png", "--model", "other"], "other"),
        (["reconstruct", "folder", "out", "--model", "other"], "other"),
        (["metadata", "--version", "7"], "7"),
        (["metadata", "--label", "canary"], "canary"),
    ],
)
def test_errors_are_one_line(run, tmp_path, monkeypatch, photographs, encode, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("folder").mkdir()
    Path("text.txt").write_text("text")
    for path in ("image.png", "folder/image.png"):
        Path(path).write_bytes(encode(photographs[0][:20, :20], "PNG"))
    before = set(Path().rglob("*.png"))
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert message in assert_one_line(err)
    assert set(Path().rglob("*.png")) == before


@pytest.mark.parametrize("address", ["{}", "http://{}"])
def test_an_unreachable_server_is_one_line(run, free_port, folder, tmp_path, address):
    target = address.format(f"127.0.0.1:{free_port()}")
    for arguments in (["status"], ["reconstruct", folder, tmp_path / "out"], ["score", folder]):
        status, _, err = run(*arguments, target=target)
        assert status == 1
        assert f"{target} is not available" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["reconstruct"], "input, output"),
        (["score", "a.png", "--format", "xml"], "xml"),
        (["status", "--timeout", "0"], "timeout"),
        (["status", "--timeout", "inf"], "timeout"),
        (["status", "--timeout", "nan"], "timeout"),
        (["status", "--version", "1", "--label", "a"], "a version or a label"),
        (["status", "--ca-certificate", "ca.pem"], "certificates are for TLS"),
        (["status", "--tls", "--ca-certificate", "nowhere.pem"], "nowhere.pem"),
        (["status", "--token-file", "nowhere"], "cannot read the token in nowhere"),
    ],
)
def test_an_invalid_command_line_exits_with_status_2(run, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_a_token_is_not_sent_in_plain_text_to_another_machine(run, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_AE_TOKEN", "secret")
    assert run("status")[0] == 0
    status, _, err = run("status", target="model.example:8500")
    assert status == 2
    assert "plain text to model.example:8500" in assert_one_line(err)
    assert "secret" not in err
    monkeypatch.delenv("KERAS_AE_TOKEN")
    (tmp_path / "token").write_text("secret\n")
    status, _, err = run("status", "--token-file", tmp_path / "token", target="http://10.0.0.1:1")
    assert status == 2


def test_the_client_runs_as_a_program(running, folder, tmp_path):
    command = [sys.executable, "-m", "serving.client"]
    done = subprocess.run(
        [*command, "reconstruct", folder, tmp_path / "out", "--target", running.grpc],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "not read: 1 .txt\n")
    help_run = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert help_run.stdout.startswith("usage: python -m serving.client ")
    for name in ("reconstruct", "score", "compare", "status", "metadata"):
        assert name in help_run.stdout


def test_tls_with_a_server_without_tls_is_one_line(running):
    command = [
        sys.executable,
        "-m",
        "serving.client",
        "status",
        "--tls",
        "--target",
        running.grpc,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is not available" in assert_one_line(done.stderr)


def test_a_closed_pipe_ends_the_program_without_a_traceback(running, folder):
    command = f"{sys.executable} -m serving.client score {folder} --target {running.grpc}"
    done = subprocess.run(
        f"{command} | head -n 0", shell=True, cwd=ROOT, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr


def test_a_progress_bar_is_shown_on_a_terminal(running, folder, tmp_path):
    terminal, program_side = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    command = [
        sys.executable,
        "-m",
        "serving.client",
        "reconstruct",
        folder,
        tmp_path / "out",
    ]
    subprocess.run(
        [*command, "--target", running.grpc],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=program_side,
    )
    os.close(program_side)
    output = b""
    with contextlib.suppress(OSError):
        # Linux raises an error when a terminal has no writer any more.
        while part := os.read(terminal, 10_000):
            output += part
    os.close(terminal)
    assert b"4/4" in output


def test_names_that_are_no_utf_8_are_escaped_as_the_pipeline_does(run, folder, tmp_path):
    names = {os.fsdecode(b"latin-\xe9.png"): "latin-\\xe9.png", "new\nline.png": "new\\x0aline.png"}
    odd = tmp_path / os.fsdecode(b"odd-\xff")
    odd.mkdir()
    for name in names:
        (odd / name).write_bytes((folder / "a.png").read_bytes())
    (odd / os.fsdecode(b"\xfe.png")).write_bytes(b"no image")
    expected = {f"{tmp_path}/odd-\\xff/{name}" for name in (*names.values(), "\\xfe.png")}
    for flags in ((), ("--format", "jsonl"), ("--output", tmp_path / "scores.csv")):
        status, out, errors = run("score", odd, *flags)
        assert status == 1
        out = (tmp_path / "scores.csv").read_text("utf-8") if "--output" in flags else out
        is_json = "jsonl" in flags
        rows = map(json.loads, out.splitlines()) if is_json else csv.DictReader(io.StringIO(out))
        assert {row["path"] for row in rows} == expected
        assert f"{tmp_path}/odd-\\xff/\\xfe.png: " in errors
    first = odd / next(iter(names))
    for command in ("reconstruct", "compare"):
        status, out, _ = run(command, first, odd / os.fsdecode(b"out-\xe9.png"))
        assert status == 0
        assert out.startswith(f"{tmp_path}/odd-\\xff/out-\\xe9.png: PSNR")


def test_pages_and_files_that_are_not_read_are_said_at_the_end(run, tmp_path, photographs, encode):
    image = Image.fromarray(photographs[0][:20, :30])
    (tmp_path / "in").mkdir()
    image.save(tmp_path / "in" / "pages", "TIFF", save_all=True, append_images=[image])
    (tmp_path / "in" / "video.mov").write_bytes(b"text")
    status, out, err = run("reconstruct", tmp_path / "in", tmp_path / "out")
    assert (status, out[:6]) == (0, "1 of 1")
    pages = tmp_path / "in" / "pages"
    assert err == f"{pages}: only the first page was sent\nnot read: 1 .mov\n"
    assert pixels(tmp_path / "out" / "pages.png").shape == (20, 30, 3)
    status, out, err = run("reconstruct", pages, tmp_path / "one.png")
    assert (status, err) == (0, f"{pages}: only the first page was sent\n")


def test_compare_shows_16_bits_and_numbers_as_the_model_sees_them(run, tmp_path, photographs):
    grey = photographs[0][:40, :40, 1]
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(grey.astype(np.float32) * 2).save(tmp_path / "float.tiff")
    status, _, err = run("compare", tmp_path / "deep.png", tmp_path / "a.png")
    assert (status, err) == (0, "")
    arguments = ("compare", tmp_path / "float.tiff", tmp_path / "b.png")
    assert "expected 0 to 1" in assert_one_line(run(*arguments)[2])
    assert run(*arguments, "--white", "510")[::2] == (0, "")
    assert run(*arguments, "--white", "0")[0] == 2
    panels = [pixels(tmp_path / name)[60:300] for name in ("a.png", "b.png")]
    assert np.abs(panels[0][:, 20:300].astype(int) - panels[1][:, 20:300]).mean() < 3
