import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run(log: str) -> subprocess.CompletedProcess:
    program = (
        "import logging, sys\n"
        "from pathlib import Path\n"
        "from pipeline.runtime import console\n"
        "with console.logs_to(Path(sys.argv[1])):\n"
        "    print('noise')\n"
        "    logging.warning('more noise')\n"
        "    console.say('ours')\n"
        "print('after')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, log],
        env={"PATH": "/usr/bin:/bin"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_only_our_lines_reach_the_terminal(tmp_path):
    done = run(str(tmp_path / "logs" / "run.log"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "ours\nafter\n", "")
    lines = (tmp_path / "logs" / "run.log").read_text().splitlines()
    assert sorted(lines) == ["WARNING:root:more noise", "noise"]


def test_the_terminal_is_restored_if_the_disk_of_the_log_is_full():
    done = run("/dev/full")
    assert done.returncode == 0
    assert done.stdout.startswith("ours\n")
    assert "after" in done.stdout
