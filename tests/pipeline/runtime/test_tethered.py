import subprocess
import sys

import psutil
import pytest

from tests.processes import await_end

PARENT = """
import os, signal, subprocess, sys
from pipeline.runtime import tethered
program = '''
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
print("child", flush=True)
signal.pause()
'''
number = getattr(signal, sys.argv[1])
child = subprocess.Popen(
    tethered.command([sys.executable, "-c", program], number),
    stdout=subprocess.PIPE, start_new_session=True,
)
child.stdout.readline()
print(child.pid, flush=True)
signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_a_child_ends_with_its_parent_that_is_killed(number):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, number], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with parent:
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
        await_end(child)
        assert parent.stderr.read() == (b"terminated\n" if number == "SIGTERM" else b"")


def test_a_command_whose_parent_has_ended_is_not_started(tmp_path):
    from pipeline.runtime import tethered

    words = tethered.command(["touch", str(tmp_path / "begun")])
    words[words.index(tethered.__file__) + 1] = "1"
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "the process 1 has ended\n"
    assert not (tmp_path / "begun").exists()
