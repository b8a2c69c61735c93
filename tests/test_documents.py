"""The Python examples of README and docs: they are Python, and those that stand alone run."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from keras_ae import presets
from tests.tiny import TINY

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): re.findall(
        r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL
    )
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
}
NEEDS_MORE = re.compile(r"127\.0\.0\.1|runs/|photo\.jpg")
"""A server, a run, a search of minutes, a file of the reader's."""


def test_every_example_compiles():
    assert sum(map(len, PAGES.values())) > 5
    for page, examples in PAGES.items():
        for number, example in enumerate(examples, 1):
            compile(example, f"{page}, example {number}", "exec")


@pytest.mark.filterwarnings("ignore:In the future `np.object` will be:FutureWarning")
@pytest.mark.parametrize("page", ["README.md", "docs/runtimes.md"])
def test_the_examples_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for preset in ("small", "medium"):
        monkeypatch.setitem(presets.PRESETS, preset, TINY)
    names: dict[str, object] = {}
    ran = 0
    for number, example in enumerate(PAGES[page], 1):
        if NEEDS_MORE.search(example):
            continue
        for module in re.findall(r"^(?:from|import) (\w+)", example, re.MULTILINE):
            if find_spec(module) is None:
                pytest.skip(f"{module} is not installed")
        exec(compile(example, f"{page}, example {number}", "exec"), names)  # noqa: S102
        ran += 1
    assert ran > 1
