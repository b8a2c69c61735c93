"""Gives the Beam steps of a local run their engine, of which nothing enters TFX's cache keys."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline.runners import beam_patches, tfx_patches
from pipeline.runners.beam import supervision
from pipeline.runtime.fingerprint import ROOT


@contextmanager
def engine(arguments: Sequence[str]) -> Iterator[None]:
    """Runs the steps that are launched within the block on the engine of `engines.beam_arguments`.

    Results are the same on every engine. So all pipelines are compiled with the same Beam
    arguments, and get those of their run here.
    """
    python_path = os.environ.get("PYTHONPATH")
    # Worker processes import the project, wherever they are started.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), python_path]))
    try:
        with (
            tfx_patches.beam_arguments_replaced(arguments),
            beam_patches.workers_supervised(supervision.worker_command, supervision.worker_died),
            beam_patches.servers_on_loopback(),
            beam_patches.signatures_cached(),
        ):
            yield
    finally:
        if python_path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = python_path
