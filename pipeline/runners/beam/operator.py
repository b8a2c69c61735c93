"""Gives a local run's Beam steps their engine, of which nothing enters TFX's cache keys."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

from apache_beam.transforms import core
from tfx.orchestration.portable import launcher
from tfx.orchestration.portable.beam_executor_operator import BeamExecutorOperator
from tfx.proto.orchestration import executable_spec_pb2, placeholder_pb2

from pipeline.runners.beam import supervision
from pipeline.runtime import loopback
from pipeline.runtime.fingerprint import ROOT


@contextmanager
def _inspected_once() -> Iterator[None]:
    """Lets Beam look at the signature of a method once, and not for every element of a pipeline.

    It asks for those of all methods of each DoFn several times while a pipeline is built and
    started (`apache_beam.transforms.userstate.get_dofn_specs`): a tenth of the time of a short run.
    """
    original = core.get_function_args_defaults
    known: WeakKeyDictionary[Any, tuple[list[str], list[Any]]] = WeakKeyDictionary()

    def inspected(function: Any) -> tuple[list[str], list[Any]]:
        if not isinstance(function, MethodType):
            return original(function)
        if function.__func__ not in known:
            known[function.__func__] = original(function)
        arguments, defaults = known[function.__func__]
        return list(arguments), list(defaults)

    core.get_function_args_defaults = inspected
    try:
        yield
    finally:
        core.get_function_args_defaults = original


@contextmanager
def engine(arguments: Sequence[str]) -> Iterator[None]:
    """Makes the steps that are launched meanwhile run on an engine.

    TFX's cache key contains the Beam arguments that a pipeline is compiled with, though an image
    is the same on every engine. So all pipelines are compiled with the same ones, and get those of
    their run here.

    Args:
        arguments: Beam's, of `pipeline.runners.beam.engines.beam_arguments`.
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
        with supervision.watched(), loopback.only(), _inspected_once():
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
