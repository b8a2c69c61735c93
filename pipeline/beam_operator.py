"""Gives a local run's Beam steps their engine, of which nothing enters TFX's cache keys."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tfx.orchestration.portable import launcher
from tfx.orchestration.portable.beam_executor_operator import BeamExecutorOperator
from tfx.proto.orchestration import executable_spec_pb2, placeholder_pb2

from pipeline import beam_workers, loopback
from pipeline.fingerprint import ROOT


@contextmanager
def engine(arguments: Sequence[str]) -> Iterator[None]:
    """Makes the steps that are launched meanwhile run on an engine.

    TFX's cache key contains the Beam arguments that a pipeline is compiled with, though an image
    is the same on every engine. So all pipelines are compiled with the same ones, and get those of
    their run here.

    Args:
        arguments: Beam's, of `pipeline.engines.beam_arguments`.
    """

    class Operator(BeamExecutorOperator):
        def __init__(self, executor_spec: Any, platform_config: Any = None) -> None:
            super().__init__(executor_spec, platform_config)
            self.beam_pipeline_args = [_literal(argument) for argument in arguments]

    operators = launcher.DEFAULT_EXECUTOR_OPERATORS
    kind = executable_spec_pb2.BeamExecutableSpec
    usual, paths = operators[kind], os.environ.get("PYTHONPATH")
    operators[kind] = Operator
    # Worker processes import the project, wherever they are started.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), paths]))
    try:
        with beam_workers.watched(), loopback.only():
            yield
    finally:
        operators[kind] = usual
        if paths is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = paths


def _literal(argument: str) -> placeholder_pb2.PlaceholderExpression:
    expression = placeholder_pb2.PlaceholderExpression()
    expression.value.string_value = argument
    return expression
