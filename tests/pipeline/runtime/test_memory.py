import os

import pytest

from pipeline.runtime import memory


def test_the_default_is_half_of_the_memory_in_whole_gigabytes():
    limit = memory.default_limit()
    assert limit % memory.GB == 0
    assert limit <= max(memory.GB, memory.total() / 2)
    assert limit == memory.default_limit()


@pytest.mark.parametrize(
    ("member", "file", "text", "expected"),
    [
        ("0::/", "memory.max", "5000", 5000),
        ("0::/a/b", "a/memory.max", "5000", 5000),
        ("0::/not/seen/here", "memory.max", "5000", 5000),
        ("0::/", "memory.max", "max", None),
        ("4:cpu,memory:/a", "memory/a/memory.limit_in_bytes", "7000", 7000),
        ("4:memory:/a", "memory/memory.limit_in_bytes", "9223372036854771712", None),
        ("5:cpu:/a", "cpu/a/memory.limit_in_bytes", "7000", None),
    ],
)
def test_a_container_may_have_less_than_the_machine(tmp_path, member, file, text, expected):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(f"{text}\n")
    (tmp_path / "membership").write_text(f"{member}\n9:name=systemd:/\n")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory.total(tmp_path, tmp_path / "membership") == (expected or machine)
    assert memory.total(tmp_path / "none", tmp_path / "none") == machine
