import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.runners.local import recovery


def test_temporary_files_of_children_too_go_below_the_root_and_leave_with_the_run(tmp_path):
    before = tempfile.gettempdir(), os.environ.get("TMPDIR")
    with recovery.folder(tmp_path, alone=True):
        made = Path(tempfile.mkdtemp())
        program = "import tempfile; print(tempfile.mkdtemp())"
        child = Path(subprocess.check_output([sys.executable, "-c", program], text=True).strip())
        assert made.is_relative_to(tmp_path)
        assert child.is_relative_to(tmp_path)
        assert child.is_dir()
    assert (tempfile.gettempdir(), os.environ.get("TMPDIR")) == before
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_cleared_by_one_that_is_alone_only(tmp_path):
    left = tmp_path / recovery.TEMPORARY / "tmpabc" / "file"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    with recovery.folder(tmp_path, alone=False):
        assert left.exists()
    assert left.exists()
    with recovery.folder(tmp_path, alone=True):
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []
